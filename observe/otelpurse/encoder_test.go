package otelpurse_test

import (
	"strings"

	"go.opentelemetry.io/otel/attribute"
)

// encoder writes attributes as {name=value,...}, by name.
type encoder struct{}

var encoderID = attribute.NewEncoderID()

func (encoder) ID() attribute.EncoderID { return encoderID }

func (encoder) Encode(it attribute.Iterator) string {
	var all []string
	for it.Next() {
		kv := it.Attribute()
		all = append(all, string(kv.Key)+"="+kv.Value.String())
	}
	return "{" + strings.Join(all, ",") + "}"
}
