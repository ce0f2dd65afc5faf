package saccount

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// TestLayout: a key that is met by chance costs the lines of memory that were
// meant, and no more.
func TestLayout(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("lines are reckoned with pointers of 8 bytes")
	}
	const line = 64
	var e entry
	assert.EqualValues(t, 4*line, unsafe.Sizeof(e))
	assert.EqualValues(t, line, unsafe.Offsetof(e.paced)+1, "what Authenticate asks fills the first line")
	assert.EqualValues(t, line/2, unsafe.Offsetof(e.purse)%line, "what a Purse remembers begins a line: half a line into it")
	assert.EqualValues(t, line, unsafe.Sizeof(keySlot{}), "all that Authenticate asks of a plain key")
	var v view
	assert.EqualValues(t, line/2, unsafe.Offsetof(v.purse)%line)
	assert.Zero(t, unsafe.Sizeof(v)%line)
	assert.EqualValues(t, line+line/2, unsafe.Sizeof(v.purse))
}
