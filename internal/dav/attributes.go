package dav

import (
	"encoding/xml"
	"strings"

	"holdfast"
)

// A dead property keeps the attributes of its element, xml:lang among them also where it stands further out
// (RFC 4918, 4.3). Few have any; the value of those is wrapped in an element of our own that carries them.

const attributesOpen = `<attributes xmlns="` + nsOwn + `"`

// storedValue returns the value of a property as it is kept. lang is the xml:lang in scope around it.
func storedValue(p *node, lang string) string {
	attrs := p.attrs
	if own, ok := langOf(p); lang != "" && !ok && own == "" {
		attrs = append([]xml.Attr{{Name: xml.Name{Space: nsXML, Local: "lang"}, Value: lang}}, attrs...)
	}
	if len(attrs) == 0 {
		return string(appendNodes(nil, p.kids, ""))
	}
	return string(appendNodes(nil, []node{{name: xml.Name{Space: nsOwn, Local: "attributes"}, attrs: attrs, kids: p.kids}}, ""))
}

// langOf returns the xml:lang of an element, and whether it has one.
func langOf(n *node) (string, bool) {
	for _, a := range n.attrs {
		if a.Name.Space == nsXML && a.Name.Local == "lang" {
			return a.Value, true
		}
	}
	return "", false
}

// langWithin returns the xml:lang in scope within an element.
func langWithin(n *node, around string) string {
	if n == nil {
		return around
	}
	if l, ok := langOf(n); ok {
		return l
	}
	return around
}

// unwrapped returns the attributes of a stored value, and the value itself.
func unwrapped(value string) ([]xml.Attr, string) {
	if !strings.HasPrefix(value, attributesOpen) {
		return nil, value
	}
	nodes := fragment(value)
	if len(nodes) != 1 || nodes[0].name != (xml.Name{Space: nsOwn, Local: "attributes"}) {
		return nil, value
	}
	return nodes[0].attrs, string(appendNodes(nil, nodes[0].kids, ""))
}

// appendDead appends a stored property. open and end are its tags.
func appendDead(dst []byte, open, end, value string) []byte {
	attrs, value := unwrapped(value)
	dst = appendAttrs(append(dst, open...), attrs)
	return append(appendFragment(append(dst, '>'), value), end...)
}

func has(props []holdfast.Property, n xml.Name) bool {
	_, ok := deadValue(props, n)
	return ok
}

// deadValue returns a dead property as it is stored.
func deadValue(props []holdfast.Property, n xml.Name) (string, bool) {
	want := clark(n)
	for i := range props {
		if props[i].Name == want {
			return props[i].Value, true
		}
	}
	return "", false
}
