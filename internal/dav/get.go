package dav

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/kind"
	"holdfast/internal/ledger"
)

// get answers GET and HEAD with the bytes that were received, whole or in ranges (RFC 9110, 13 and
// 14), verified against their hash.
func get(q *request) error {
	var body io.ReadSeekCloser
	var t *target
	err := q.view(func(v *ledger.View) (err error) {
		if t, err = find(v, q.path); err != nil {
			return err
		}
		if t.place != placeResource {
			return nil
		}
		if body, err = v.OpenBody(t.res); err != nil {
			return fmt.Errorf("open body: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if body == nil {
		return getCollection(q, t)
	}
	h := q.w.Header()
	kindOf := t.coll.Kind
	h.Set("ETag", t.res.ETag())
	h.Set("Content-Type", contentType(kindOf, t.res))
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Last-Modified", time.UnixMilli(t.res.Modified).UTC().Format(http.TimeFormat)) // also of 1970, which ServeContent takes for none
	if kindOf == holdfast.KindFile {
		digestHeaders(q, t.res)
	}
	if l, ok := property(t.res.Props, davName("getcontentlanguage")); ok && languageTags.MatchString(l) {
		h.Set("Content-Language", l) // RFC 4918, 15.3
	}
	harmless(h, t.res.Name)
	if r := q.Header.Get("Range"); r != "" && !strings.HasPrefix(strings.ToLower(r), "bytes=") {
		q.Header.Del("Range") // RFC 9110, 14.2: a unit that is not known is ignored
	}
	v := &verified{body: body, size: t.res.Size}
	http.ServeContent(q.w, q.Request, "", time.UnixMilli(t.res.Modified), v)
	err = errors.Join(v.err, body.Close())
	if err == nil {
		return nil
	}
	q.h.log.Error("body served in part only", "account", q.who.Account.String(), "err", err)
	return errAnswered
}

// languageTags is a list of them (RFC 9110, 8.5).
var languageTags = regexp.MustCompile(`^[A-Za-z0-9-]{1,35}(, ?[A-Za-z0-9-]{1,35}){0,20}$`)

// getCollection says what it is; its members are for PROPFIND.
func getCollection(q *request, t *target) error {
	if !q.path.slash {
		q.w.Header().Set("Content-Location", string(q.path.append(nil, t.segs, true)))
	}
	h := q.w.Header()
	harmless(h, "")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	http.ServeContent(q.w, q.Request, "", time.Time{}, strings.NewReader("This is a WebDAV collection: use PROPFIND to list it.\n"))
	return nil
}

// inert are the types a browser shows without running anything in them.
var inert = map[string]bool{"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "text/plain": true}

// isInert reports whether a browser may show the type. A subtype "+xml" is markup whatever stands before it.
func isInert(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil || strings.Contains(t, "xml") {
		return false
	}
	return inert[t] || strings.HasPrefix(t, "video/") || strings.HasPrefix(t, "audio/")
}

// harmless keeps a browser from taking a stored body for a page of this server.
func harmless(h http.Header, name string) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	if isInert(h.Get("Content-Type")) {
		return
	}
	d := "attachment"
	if name != "" {
		d += "; filename*=UTF-8''" + strings.ReplaceAll(string(appendEscaped(nil, name)), "@", "%40") // RFC 8187, 3.2
	}
	h.Set("Content-Disposition", d)
}

// contentType returns the media type a resource is served with.
func contentType(k holdfast.Kind, r *ledger.Resource) string {
	switch k {
	case holdfast.KindCalendar:
		if r.Component != "" {
			return kind.ContentType(k) + "; component=" + r.Component // RFC 5545, 8.1
		}
		return kind.ContentType(k)
	case holdfast.KindFile:
		if r.ContentType != "" {
			return r.ContentType
		}
		if t := mime.TypeByExtension(filepath.Ext(r.Name)); t != "" {
			return t
		}
	}
	return kind.ContentType(k)
}

// verified keeps the last bytes of a body back until its hash was found right, so that a damaged one
// never arrives whole (L11). The hash is known after a whole read in order; a range is served as far
// as the ledger can prove it.
type verified struct {
	body io.ReadSeekCloser
	size int64
	at   int64
	err  error // the first of a read; io.EOF is none
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.body.Read(p)
	v.at += int64(n)
	if err == nil && v.at >= v.size {
		var one [1]byte
		var extra int
		if extra, err = v.body.Read(one[:]); extra > 0 {
			err = fmt.Errorf("body longer than %d bytes: %w", v.size, holdfast.ErrCorrupt)
		}
	}
	if err == nil || errors.Is(err, io.EOF) && v.at == v.size {
		return n, err
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("body ends after %d of %d bytes: %w", v.at, v.size, holdfast.ErrCorrupt)
	}
	v.err = err
	return 0, err
}

func (v *verified) Seek(offset int64, whence int) (int64, error) {
	at, err := v.body.Seek(offset, whence)
	if err != nil {
		v.err = err
		return at, err
	}
	v.at = at
	return at, nil
}
