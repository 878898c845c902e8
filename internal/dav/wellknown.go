package dav

import "net/http"

// WellKnown answers /.well-known/caldav and /.well-known/carddav, to anybody and every method
// (RFC 6764, 5): the context path is Base. The Location is a path only, so it is right behind any proxy.
func WellKnown(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/.well-known/caldav", "/.well-known/carddav", "/.well-known/caldav/", "/.well-known/carddav/":
	default:
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Location", Base)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusMovedPermanently)
}
