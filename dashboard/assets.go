package dashboard

import (
	"bytes"
	"embed"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed assets templates
var files embed.FS

// assetPath is where assets lie below the mount path.
const assetPath = "assets/"

// asset is a file that pages name by a digest of what is in it: it never
// changes under its name, and is kept for ever by whoever has it.
type asset struct {
	body      []byte
	mediaType string
}

// assets are the embedded files by the name that pages use, and the names that
// pages use by the files' own.
type assets struct {
	named map[string]asset
	names map[string]string
}

func newAssets() (assets, error) {
	a := assets{named: map[string]asset{}, names: map[string]string{}}
	list, err := files.ReadDir("assets")
	if err != nil {
		return a, err
	}
	for _, f := range list {
		body, err := files.ReadFile("assets/" + f.Name())
		if err != nil {
			return a, err
		}
		ext := path.Ext(f.Name())
		name := strings.TrimSuffix(f.Name(), ext) + "." + digest(body)[:16] + ext
		a.named[name] = asset{body, mime.TypeByExtension(ext)}
		a.names[f.Name()] = name
	}
	return a, nil
}

// serveAsset answers a request for an asset, and reports whether it was one.
// Nothing of the host's is in one, so anybody may have it.
func (c *call) serveAsset() bool {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return false
	}
	for _, p := range c.below() {
		if name, ok := strings.CutPrefix(p, assetPath); ok && c.writeAsset(name) {
			return true
		}
	}
	return false
}

func (c *call) writeAsset(name string) bool {
	a, ok := c.assets.named[name]
	if !ok {
		return false
	}
	h := c.w.Header()
	h.Set("Content-Type", a.mediaType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(c.w, c.r, name, time.Time{}, bytes.NewReader(a.body))
	return true
}
