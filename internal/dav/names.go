package dav

import (
	"encoding/xml"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/internal/ledger"
)

// The namespaces of the protocols spoken here.
const (
	nsDAV   = "DAV:"
	nsCal   = "urn:ietf:params:xml:ns:caldav"
	nsCard  = "urn:ietf:params:xml:ns:carddav"
	nsCS    = "http://calendarserver.org/ns/"
	nsApple = "http://apple.com/ns/ical/"
	nsOwn   = "holdfast:" // properties the server keeps for itself; no client sees or sets them
	nsXML   = "http://www.w3.org/XML/1998/namespace"
)

// prefixes are declared on the root of every answer.
var prefixes = []struct{ prefix, space string }{
	{"D", nsDAV}, {"C", nsCal}, {"CR", nsCard}, {"CS", nsCS}, {"A", nsApple},
}

func davName(local string) xml.Name  { return xml.Name{Space: nsDAV, Local: local} }
func calName(local string) xml.Name  { return xml.Name{Space: nsCal, Local: local} }
func cardName(local string) xml.Name { return xml.Name{Space: nsCard, Local: local} }

// clark returns a name in Clark notation, "{namespace}local", as holdfast.Property has it.
func clark(n xml.Name) string { return "{" + n.Space + "}" + n.Local }

// unclark is the reverse of clark. A local part never holds a brace, a namespace may.
func unclark(s string) xml.Name {
	if i := strings.LastIndexByte(s, '}'); i > 0 && s[0] == '{' {
		return xml.Name{Space: s[1:i], Local: s[i+1:]}
	}
	return xml.Name{Local: s}
}

// property returns the value of a dead property, without attributes, and whether there is one.
func property(props []holdfast.Property, n xml.Name) (string, bool) {
	v, ok := deadValue(props, n)
	_, v = unwrapped(v)
	return v, ok
}

// placedName is the property with the seq of the change that put a collection at its path. A sync
// token from before is of another collection, deleted or moved away since.
var placedName = xml.Name{Space: nsOwn, Local: "placed"}

// markPlaced returns properties that say that a collection comes to its path by the change tx makes.
func markPlaced(tx *ledger.Tx, props []holdfast.Property) []holdfast.Property {
	out := make([]holdfast.Property, 0, len(props)+1)
	for _, p := range props {
		if p.Name != clark(placedName) {
			out = append(out, p)
		}
	}
	return append(out, holdfast.Property{Name: clark(placedName), Value: strconv.FormatUint(uint64(tx.Head().Head.Seq)+1, 10)})
}

// placed returns the seq at which a collection came to its path; 0 if it was always there.
func placed(c *ledger.Collection) holdfast.Seq {
	v, _ := property(c.Props, placedName)
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0 // made with the account
	}
	return holdfast.Seq(n)
}
