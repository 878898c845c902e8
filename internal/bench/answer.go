package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

const (
	xmlHead    = "\r\nContent-Type: application/xml; charset=utf-8"
	syncHeader = xmlHead + "\r\nDepth: 0"
	listHeader = xmlHead + "\r\nDepth: 1"
	listBody   = `<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><getetag/></prop></propfind>`
	tokenBody  = `<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><sync-token/></prop></propfind>`
)

func syncBody(token string) []byte {
	return []byte(`<?xml version="1.0" encoding="utf-8"?><sync-collection xmlns="DAV:"><sync-token>` + token +
		`</sync-token><sync-level>1</sync-level><prop><getetag/></prop></sync-collection>`)
}

// listed is what a multistatus says: ETags by href, and the sync token.
type listed struct {
	etags map[string]string
	token string
}

var (
	responsePattern = regexp.MustCompile(`(?s)<(?:\w+:)?response\b.*?</(?:\w+:)?response>`)
	hrefPattern     = regexp.MustCompile(`<(?:\w+:)?href\b[^>]*>([^<]*)<`)
	etagPattern     = regexp.MustCompile(`<(?:\w+:)?getetag\b[^>]*>([^<]*)<`)
	tokenPattern    = regexp.MustCompile(`<(?:\w+:)?sync-token\b[^>]*>([^<]*)<`)
)

// parseAnswer reads the multistatus of a server that is known: it is no XML parser.
func parseAnswer(body []byte) listed {
	l := listed{etags: make(map[string]string)}
	for _, r := range responsePattern.FindAll(body, -1) {
		if h := hrefPattern.FindSubmatch(r); h != nil {
			etag := ""
			if e := etagPattern.FindSubmatch(r); e != nil {
				etag = strings.ReplaceAll(string(e[1]), "&quot;", `"`)
				etag = strings.ReplaceAll(etag, "&#34;", `"`)
			}
			l.etags[string(h[1])] = etag
		}
	}
	if t := tokenPattern.FindSubmatch(body); t != nil {
		l.token = string(t[1])
	}
	return l
}

// equal reports whether exactly the wanted names are listed with their ETags, besides the collection itself.
func (l listed) equal(home string, want map[string]string) bool {
	delete(l.etags, home)
	if len(l.etags) != len(want) {
		return false
	}
	for name, etag := range want {
		if l.etags[home+name+".vcf"] != etag {
			return false
		}
	}
	return true
}

// syncToken asks for the present sync token of a client's contacts.
func syncToken(c *client) (string, error) {
	status, _, got, err := c.do("PROPFIND", c.home, syncHeader, []byte(tokenBody))
	if err != nil {
		return "", err
	}
	t := parseAnswer(got).token
	if status != http.StatusMultiStatus || t == "" {
		return "", fmt.Errorf("ask for sync token: status %d: %s", status, got)
	}
	return t, nil
}
