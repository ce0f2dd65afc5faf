package leak

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/saccount"
)

// Bounds on what GitHub sends at once.
const (
	maxMatches = 10_000
	maxBody    = 8 << 20 // bytes
)

// The headers of GitHub's request.
const (
	headerIdentifier = "Github-Public-Key-Identifier"
	headerSignature  = "Github-Public-Key-Signature"
)

// match is one token that GitHub found.
type match struct {
	Token  string `json:"token"`
	Type   string `json:"type"`
	URL    string `json:"url"`
	Source string `json:"source"`
}

// feedback tells GitHub whether what it found was a token.
type feedback struct {
	Hash  string `json:"token_hash"` // SHA-256, in hexadecimal digits
	Type  string `json:"token_type"`
	Label string `json:"label"` // true_positive or false_positive
}

// GitHub is the handler for GitHub's secret scanning partner program: a POST of
// a JSON array of matches, up to 10,000 and 8 MiB, signed by ECDSA P-256 over
// the SHA-256 of the body. Every match is reported; the answer is 200 with
// GitHub's feedback array, which names tokens by their SHA-256 and says of each
// whether it is real. Nobody but GitHub is told: 403 where the signature is not
// GitHub's, before anything of the body is read as JSON. 400, 405, 413; 503
// where the keys cannot be had or the store cannot be asked, and GitHub sends
// it again: what was disabled by then stays so. Errors are those of Plain.
func GitHub(svc *saccount.Service, cfg Config) (http.Handler, error) {
	h, err := newHandler(svc, cfg)
	if err != nil {
		return nil, err
	}
	source := cfg.PublicKeys
	if source == nil {
		source = FetchKeys(nil, "", "")
	}
	return &github{h, &keyCache{source: source}}, nil
}

type github struct {
	*handler
	keys *keyCache
}

func (g *github) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, ok := body(w, r, maxBody)
	if !ok {
		return
	}
	switch err := g.signed(r.Context(), r.Header, b); {
	case errors.Is(err, errSignature):
		answer(w, r, http.StatusForbidden, "the signature is not GitHub's")
		return
	case err != nil:
		g.log.ErrorContext(r.Context(), "keypurse: GitHub's public keys cannot be had", "error", err)
		answer(w, r, http.StatusServiceUnavailable, "the signature cannot be checked now")
		return
	}
	var matches []match
	if err := json.Unmarshal(b, &matches); err != nil {
		answer(w, r, http.StatusBadRequest, "the body is not a JSON array of matches")
		return
	}
	if len(matches) > maxMatches {
		answer(w, r, http.StatusRequestEntityTooLarge, "too many matches at once")
		return
	}
	ctx, cancel := g.work(r)
	defer cancel()
	out, err := g.reportAll(ctx, matches)
	if err != nil {
		answer(w, r, http.StatusServiceUnavailable, "try again later")
		return
	}
	text, err := json.Marshal(out)
	if err != nil {
		answer(w, r, http.StatusInternalServerError, "the answer could not be made")
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	web.Write(w, r, http.StatusOK, "application/json", append(text, '\n'))
}

func (g *github) reportAll(ctx context.Context, matches []match) ([]feedback, error) {
	out := make([]feedback, 0, len(matches))
	known := map[string]string{}
	for _, m := range matches {
		label, ok := known[m.Token]
		if !ok {
			source := "GitHub"
			if m.Source != "" {
				source += " (" + m.Source + ")"
			}
			got, err := g.report(ctx, saccount.Leak{Token: m.Token, Source: source, URL: m.URL})
			if err != nil {
				return nil, err
			}
			if label = "false_positive"; got.Real {
				label = "true_positive"
			}
			known[m.Token] = label
		}
		sum := sha256.Sum256([]byte(m.Token))
		out = append(out, feedback{hex.EncodeToString(sum[:]), m.Type, label})
	}
	return out, nil
}

var errSignature = errors.New("the signature is not good")

// signed checks the signature of the body as it came.
func (g *github) signed(ctx context.Context, header http.Header, body []byte) error {
	ids, signatures := header.Values(headerIdentifier), header.Values(headerSignature)
	if len(ids) != 1 || len(signatures) != 1 || len(ids[0]) > 256 || len(signatures[0]) > 256 {
		return errSignature
	}
	signature, err := base64.StdEncoding.DecodeString(signatures[0])
	if err != nil {
		return errSignature
	}
	key, err := g.keys.get(ctx, ids[0], time.Now())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	if key == nil || !ecdsa.VerifyASN1(key, sum[:], signature) {
		return errSignature
	}
	return nil
}
