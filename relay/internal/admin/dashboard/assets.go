package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"sync"
)

// assetFiles are htmx, its SSE extension, Pico.css and uPlot as their authors
// publish them, with their licences, and our own app.css and app.js.
//
//go:embed assets
var assetFiles embed.FS

// assets are what pages load. Their address names what is in them, so that
// browsers keep them until another release brings others.
type assets struct {
	files   map[string][]byte
	address string // ends in a slash
}

// ownAssets returns the assets of this release.
var ownAssets = sync.OnceValue(func() *assets {
	a := &assets{files: map[string][]byte{}}
	sum := sha256.New()
	_ = fs.WalkDir( // what is embedded can be read
		assetFiles, "assets", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := assetFiles.ReadFile(name)
			a.files[path.Base(name)] = text
			sum.Write(text)
			return err
		})
	a.address = Base + "/assets/" + hex.EncodeToString(sum.Sum(nil)[:6]) + "/"
	return a
})

// Styles returns the paths of the style sheets, for the pages where people log
// in.
func Styles() []string { return []string{ownAssets().address + "app.css"} }

// serve answers for {build}/{name}.
func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	text, ok := a.files[r.PathValue("name")]
	if !ok || r.URL.Path != a.address+r.PathValue("name") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("no such file\n"))
		return
	}
	kind := mime.TypeByExtension(path.Ext(r.PathValue("name")))
	if kind == "" {
		kind = "text/plain; charset=utf-8" // the licences
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(text)
}
