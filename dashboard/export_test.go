package dashboard

// PagePaths are the paths of the pages that can be got.
func PagePaths() []string {
	var out []string
	for _, r := range pageRoutes() {
		if r.method == "GET" {
			out = append(out, r.path)
		}
	}
	return out
}
