package dav

import (
	"encoding/xml"
	"strings"
	"sync"
	"unicode/utf8"
)

const xmlHeader = `<?xml version="1.0" encoding="utf-8"?>` + "\n"

// Answers are made by append into buffers that are used again, unless they grew large.
const keepBuffer = 1 << 20

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 16<<10); return &b }}

// appendText appends character data. A carriage return is escaped, or a parser would drop it (XML
// 1.0, 2.11); what XML cannot carry at all becomes U+FFFD, and GET still has the true bytes.
func appendText[T string | []byte](dst []byte, s T) []byte {
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '&' && c != '<' && c != '>' || c == '\n' || c == '\t' {
			i++
			continue
		}
		var esc string
		size := 1
		switch {
		case c == '&':
			esc = "&amp;"
		case c == '<':
			esc = "&lt;"
		case c == '>':
			esc = "&gt;"
		case c == '\r':
			esc = "&#13;"
		case c < 0x20:
			esc = "\uFFFD"
		default:
			var r rune
			r, size = decodeRune(s[i:])
			if (r != utf8.RuneError || size > 1) && r != 0xFFFE && r != 0xFFFF {
				i += size
				continue
			}
			esc = "\uFFFD"
		}
		dst = append(dst, s[done:i]...)
		dst = append(dst, esc...)
		i += size
		done = i
	}
	return append(dst, s[done:]...)
}

func decodeRune[T string | []byte](s T) (rune, int) {
	n := min(len(s), utf8.UTFMax)
	return utf8.DecodeRune([]byte(s[:n]))
}

// appendAttr appends the value of an attribute that stands in double quotes.
func appendAttr(dst []byte, s string) []byte {
	for _, r := range s {
		switch r {
		case '"':
			dst = append(dst, "&quot;"...)
		case '\n':
			dst = append(dst, "&#10;"...)
		case '\t':
			dst = append(dst, "&#9;"...)
		default:
			dst = appendText(dst, string(r))
		}
	}
	return dst
}

// tags returns the opening tag without its closing bracket, and the end tag, of a name in an answer
// whose root declared prefixes.
func tags(n xml.Name) (open, end string) {
	for _, p := range prefixes {
		if p.space == n.Space {
			return "<" + p.prefix + ":" + n.Local, "</" + p.prefix + ":" + n.Local + ">"
		}
	}
	if n.Space == "" {
		return "<" + n.Local, "</" + n.Local + ">"
	}
	return "<x:" + n.Local + ` xmlns:x="` + string(appendAttr(nil, n.Space)) + `"`, "</x:" + n.Local + ">"
}

func appendEmpty(dst []byte, n xml.Name) []byte {
	open, _ := tags(n)
	dst = append(dst, open...)
	return append(dst, "/>"...)
}

// appendNodes writes nodes so that they stand for themselves: every element that needs it declares
// its namespace as the default one. space is the default namespace where they will stand.
func appendNodes(dst []byte, nodes []node, space string) []byte {
	for i := range nodes {
		n := &nodes[i]
		if n.name.Local == "" {
			dst = appendText(dst, n.text)
			continue
		}
		dst = append(dst, '<')
		dst = append(dst, n.name.Local...)
		if n.name.Space != space {
			dst = append(dst, ` xmlns="`...)
			dst = append(appendAttr(dst, n.name.Space), '"')
		}
		dst = appendAttrs(dst, n.attrs)
		if len(n.kids) == 0 {
			dst = append(dst, "/>"...)
			continue
		}
		dst = append(dst, '>')
		dst = appendNodes(dst, n.kids, n.name.Space)
		dst = append(dst, "</"...)
		dst = append(dst, n.name.Local...)
		dst = append(dst, '>')
	}
	return dst
}

// appendAttrs writes attributes that declare their namespaces themselves.
func appendAttrs(dst []byte, attrs []xml.Attr) []byte {
	for j, a := range attrs {
		dst = append(dst, ' ')
		switch a.Name.Space {
		case "":
		case nsXML:
			dst = append(dst, "xml:"...)
		default:
			prefix := "n" + string(rune('a'+j%26)) + strings.Repeat("_", j/26)
			dst = append(dst, "xmlns:"+prefix+`="`...)
			dst = append(appendAttr(dst, a.Name.Space), `" `+prefix+":"...)
		}
		dst = append(dst, a.Name.Local...)
		dst = append(dst, `="`...)
		dst = append(appendAttr(dst, a.Value), '"')
	}
	return dst
}

// fragment parses the stored value of a dead property. What is no XML fragment is taken as text.
func fragment(value string) []node {
	if strings.ContainsAny(value, "<&") {
		b := make([]byte, 0, len(value)+64)
		b = append(b, "<x"...)
		for _, p := range prefixes {
			b = append(b, " xmlns:"+p.prefix+`="`+p.space+`"`...)
		}
		b = append(append(append(b, '>'), value...), "</x>"...)
		if n, err := parseXML(b); err == nil {
			return n.kids
		}
	}
	return []node{{text: value}}
}

// appendFragment writes the stored value of a dead property.
func appendFragment(dst []byte, value string) []byte {
	if strings.ContainsAny(value, "<&") {
		return appendNodes(dst, fragment(value), "")
	}
	return appendText(dst, value)
}

// appendHref appends a DAV:href with the path of some segments below /dav/.
func appendHref(dst []byte, segs []string, collection bool) []byte {
	dst = append(dst, "<D:href>"...)
	dst = appendPath(dst, segs, collection) // escaped octets need no escaping in XML
	return append(dst, "</D:href>"...)
}

// trimmed returns the text of an element without the white space around it.
func trimmed(n *node) string { return strings.TrimSpace(n.content()) }
