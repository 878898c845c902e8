package dav

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast"
)

// Base is the path below which everything is served.
const Base = "/dav/"

// filesBase is the path below which the files of an account are served once more, where programs made
// for Nextcloud look for them: NAME/... follows, as below Base. Collections that hold no files are not
// seen there; uploadsBase is where such programs put the pieces of large files.
const (
	filesBase   = "/remote.php/dav/files/"
	uploadsBase = "/remote.php/dav/uploads/"
)

// Serves reports whether a path is one of those that a Handler serves.
func Serves(p string) bool {
	return strings.HasPrefix(p, Base) || strings.HasPrefix(p, filesBase) || strings.HasPrefix(p, uploadsBase)
}

// principals is the segment below Base that holds principals; no account has this name.
const principals = "principals"

const (
	maxName     = 255 // bytes of one decoded segment
	maxSegments = 64
)

// path is a decoded path below Base.
type path struct {
	segs  []string
	slash bool // it ended in a slash, so it was meant as a collection
	files bool // it is below filesBase
}

// parsePath reads an escaped path. ErrInvalid: not below Base, or with a segment that could not be a
// name: empty, ".", "..", with a slash, a control character or bytes that are not UTF-8, over 255 bytes.
func parsePath(escaped string) (path, error) { return splitPath(escaped, url.PathUnescape) }

func splitPath(escaped string, unescape func(string) (string, error)) (path, error) {
	rest, files := strings.CutPrefix(escaped, filesBase)
	if files {
		p, err := splitSegments(rest, unescape)
		p.files = true
		return p, err
	}
	rest, ok := strings.CutPrefix(escaped, Base)
	if !ok {
		if escaped+"/" != Base {
			return path{}, fmt.Errorf("path outside %s: %w", Base, holdfast.ErrInvalid)
		}
		rest = ""
	}
	return splitSegments(rest, unescape)
}

// splitSegments reads what follows a base.
func splitSegments(rest string, unescape func(string) (string, error)) (path, error) {
	if rest == "" {
		return path{slash: true}, nil
	}
	var p path
	rest, p.slash = strings.CutSuffix(rest, "/")
	if strings.Count(rest, "/") >= maxSegments {
		return path{}, fmt.Errorf("path of more than %d segments: %w", maxSegments, holdfast.ErrInvalid)
	}
	p.segs = strings.Split(rest, "/")
	for i, s := range p.segs {
		s, err := unescape(s)
		if err != nil {
			return path{}, fmt.Errorf("segment %d: broken escape: %w", i, holdfast.ErrInvalid)
		}
		if err := checkName(s); err != nil {
			return path{}, fmt.Errorf("segment %d: %w", i, err)
		}
		p.segs[i] = s
	}
	return p, nil
}

// checkName refuses what cannot be the name of a collection or resource.
func checkName(s string) error {
	switch {
	case s == "" || s == "." || s == "..":
		return fmt.Errorf("no name: %w", holdfast.ErrInvalid)
	case len(s) > maxName:
		return fmt.Errorf("name of %d bytes: %w", len(s), holdfast.ErrInvalid)
	case !utf8.ValidString(s):
		return fmt.Errorf("name is not UTF-8: %w", holdfast.ErrInvalid)
	}
	for _, r := range s {
		if r == '/' || unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF {
			return fmt.Errorf("character %U in a name: %w", r, holdfast.ErrInvalid)
		}
	}
	return nil
}

// parseHref reads a reference from a request body or a Destination header: a URL or a path, relative
// to base, escaped or not. Host and query do not count.
func parseHref(s string, base path) (path, error) {
	s = strings.TrimSpace(s)
	for _, scheme := range []string{"http://", "https://"} {
		if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			if i := strings.IndexByte(s[len(scheme):], '/'); i >= 0 {
				s = s[len(scheme)+i:]
			} else {
				s = "/"
			}
		}
	}
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	if s != "" && s[0] != '/' {
		s = string(base.append(nil, base.segs, true)) + s
	}
	return splitPath(s, func(seg string) (string, error) {
		if u, err := url.PathUnescape(seg); err == nil {
			return u, nil
		}
		return seg, nil // a per cent sign that was never an escape
	})
}

// appendPath appends the escaped path of some segments below Base, with a slash at the end of a collection.
func appendPath(dst []byte, segs []string, collection bool) []byte {
	return path{}.append(dst, segs, collection)
}

// append is appendPath for segments below the base that p is below, so that a client finds in an answer
// the paths it asked for.
func (p path) append(dst []byte, segs []string, collection bool) []byte {
	if p.files {
		dst = append(dst, filesBase...)
	} else {
		dst = append(dst, Base...)
	}
	for i, s := range segs {
		if i > 0 {
			dst = append(dst, '/')
		}
		dst = appendEscaped(dst, s)
	}
	if collection && len(segs) > 0 {
		dst = append(dst, '/')
	}
	return dst
}

// CollectionPath returns the path of a collection as answers have it. segs begins with the account's name.
func CollectionPath(segs []string) string { return string(appendPath(nil, segs, true)) }

// appendEscaped escapes one segment: all but the unreserved characters (RFC 3986, 2.3) and "@".
func appendEscaped(dst []byte, s string) []byte {
	const hexDigits = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~', c == '@':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// below returns the segments of a member.
func below(segs []string, name string) []string {
	out := make([]string, len(segs), len(segs)+1)
	copy(out, segs)
	return append(out, name)
}
