package main

import (
	"bytes"
	"fmt"
	"net/http"
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

// parseAnswer reads the multistatus of a server that is known: it is no XML parser.
func parseAnswer(body []byte) listed {
	l := listed{etags: make(map[string]string, bytes.Count(body, []byte("getetag>"))/2)}
	eachResponse(body, func(r []byte) {
		if href, rest, ok := elementText(r, "href"); ok {
			etag, _, _ := elementText(rest, "getetag")
			l.etags[string(unescape(href))] = string(unescape(etag))
		}
	})
	const tail = 1000 // the token of a sync is the last element; that of a PROPFIND's answer is in a short one
	if t, _, ok := elementText(body[max(0, len(body)-tail):], "sync-token"); ok {
		l.token = string(unescape(t))
	}
	return l
}

// eachObject calls f for each member of a multistatus that has data.
func eachObject(answer []byte, f func(href, etag string, data []byte)) {
	eachResponse(answer, func(r []byte) {
		href, rest, _ := elementText(r, "href")
		etag, _, _ := elementText(rest, "getetag")
		data, _, ok := elementText(rest, "address-data")
		if !ok {
			data, _, ok = elementText(rest, "calendar-data")
		}
		if ok {
			f(string(unescape(href)), string(unescape(etag)), unescape(data))
		}
	})
}

// eachResponse calls f with what each response element holds.
func eachResponse(answer []byte, f func(r []byte)) {
	for {
		rest, ok := afterStart(answer, "response")
		if !ok {
			return
		}
		one, after, ok := bytes.Cut(rest, []byte("response>"))
		if !ok {
			return
		}
		answer = after
		f(one)
	}
}

// afterStart finds the next start tag of that local name and returns what follows it.
func afterStart(b []byte, name string) (rest []byte, ok bool) {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(name))
		if i < 0 {
			return nil, false
		}
		i += at
		at = i + len(name)
		const longest = 20 // of a prefix
		open := bytes.LastIndexByte(b[max(0, i-longest):i], '<')
		if open < 0 || at >= len(b) || bytes.ContainsAny(b[max(0, i-longest)+open:i], "/> ") || b[at] != '>' && b[at] != ' ' {
			continue
		}
		end := bytes.IndexByte(b[at:], '>')
		if end < 0 {
			return nil, false
		}
		return b[at+end+1:], true
	}
}

// elementText returns the text of the next element of that local name.
func elementText(b []byte, name string) (text, rest []byte, ok bool) {
	rest, ok = afterStart(b, name)
	if !ok {
		return nil, b, false
	}
	end := bytes.IndexByte(rest, '<')
	if end < 0 {
		return nil, b, false
	}
	return rest[:end], rest[end:], true
}

var unescaper = strings.NewReplacer("&quot;", `"`, "&#34;", `"`, "&#13;", "\r", "&#xD;", "\r", "&#xd;", "\r", "&lt;", "<", "&gt;", ">", "&apos;", "'", "&#39;", "'", "&amp;", "&")

// unescape replaces what servers write in text. A body without carriage returns, as XML allows, is left as it is.
func unescape(b []byte) []byte {
	if bytes.IndexByte(b, '&') < 0 {
		return b
	}
	return []byte(unescaper.Replace(string(b)))
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
