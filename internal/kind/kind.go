// Package kind has one row for each kind of data: how a body is checked and indexed, and how its
// resources are named and typed in WebDAV. A new kind of data is a parser and a row here.
//
// Invariant: a body is refused only if it cannot be framed; all else is accepted as received and
// indexed as far as it parses. What was accepted once is accepted for ever: Parse runs again in
// every replay.
package kind

import (
	"fmt"
	"math"

	"holdfast"
	"holdfast/internal/ical"
	"holdfast/internal/vcard"
)

// Index is what the store keeps of a body beside the body.
type Index struct {
	UID       string // "" without one: RFC 5545 and CardDAV require one, peers accept its absence
	Component string // of a calendar object: "VEVENT", "VTODO", ...; "" for other kinds
	First     int64  // seconds since 1970 UTC: nothing of it is before; math.MinInt64 = unbounded
	Last      int64  // seconds since 1970 UTC, inclusive: nothing of it is after; math.MaxInt64 = unbounded
}

// unbounded is the index of what has no place in time.
var unbounded = Index{First: math.MinInt64, Last: math.MaxInt64}

// row is all that depends on a kind.
type row struct {
	parse       func(body []byte) (Index, error)
	extension   string
	contentType string
	resource    string // element beside DAV:collection in DAV:resourcetype, Clark notation
	properties  []string
}

const (
	caldav  = "{urn:ietf:params:xml:ns:caldav}"
	carddav = "{urn:ietf:params:xml:ns:carddav}"
)

var rows = [...]row{
	holdfast.KindCard: {
		parse: parseCard, extension: ".vcf", contentType: "text/vcard; charset=utf-8",
		resource:   carddav + "addressbook",
		properties: []string{carddav + "addressbook-description", carddav + "supported-address-data", carddav + "max-resource-size", carddav + "supported-collation-set"},
	},
	holdfast.KindCalendar: {
		parse: parseCalendar, extension: ".ics", contentType: "text/calendar; charset=utf-8",
		resource: caldav + "calendar",
		properties: []string{
			caldav + "calendar-description", caldav + "calendar-timezone", caldav + "supported-calendar-component-set",
			caldav + "supported-calendar-data", caldav + "max-resource-size", caldav + "supported-collation-set",
		},
	},
	holdfast.KindMessage: {parse: parseAny, extension: ".eml", contentType: "message/rfc822"},
	holdfast.KindFile:    {parse: parseAny, contentType: "application/octet-stream"},
	holdfast.KindRecord:  {parse: parseAny, extension: ".json", contentType: "application/json"},
}

func rowOf(k holdfast.Kind) *row {
	if int(k) >= len(rows) || rows[k].parse == nil {
		return nil
	}
	return &rows[k]
}

// Parse checks the frame of a body and indexes it. The error wraps holdfast.ErrInvalid: the kind is
// unknown, or the body cannot be framed (see vcard.Parse and ical.Parse). The content type is what
// the client said; it does not decide. Parse never panics and takes time linear in the body.
func Parse(k holdfast.Kind, contentType string, body []byte) (Index, error) {
	r := rowOf(k)
	if r == nil {
		return Index{}, fmt.Errorf("parse body of kind %d: %w", k, holdfast.ErrInvalid)
	}
	return r.parse(body)
}

// Extension returns the file name extension of a kind, with its dot; "" for files, which have their own.
func Extension(k holdfast.Kind) string {
	if r := rowOf(k); r != nil {
		return r.extension
	}
	return ""
}

// ContentType returns the Content-Type of a body that came without one.
func ContentType(k holdfast.Kind) string {
	if r := rowOf(k); r != nil {
		return r.contentType
	}
	return "application/octet-stream"
}

// ResourceType returns what stands beside DAV:collection in the DAV:resourcetype of a collection of
// the kind, in Clark notation: CALDAV:calendar, CARDDAV:addressbook, or "" for none.
func ResourceType(k holdfast.Kind) string {
	if r := rowOf(k); r != nil {
		return r.resource
	}
	return ""
}

// Properties returns, in Clark notation, the properties that collections of the kind have beyond
// those of every collection (RFC 4791, 5.2 and 7.5.1; RFC 6352, 6.2 and 8.3.1). Do not change it.
func Properties(k holdfast.Kind) []string {
	if r := rowOf(k); r != nil {
		return r.properties
	}
	return nil
}

func parseCard(body []byte) (Index, error) {
	uid, err := vcard.UID(body)
	if err != nil {
		return Index{}, err
	}
	x := unbounded
	x.UID = uid
	return x, nil
}

func parseCalendar(body []byte) (Index, error) {
	o, err := ical.Parse(body)
	if err != nil {
		return Index{}, err
	}
	x := Index{UID: o.UID}
	x.Component, _ = o.Type() // mixed types are Component's to refuse
	x.First, x.Last = o.Bounds()
	return x, nil
}

func parseAny([]byte) (Index, error) { return unbounded, nil }

// Component returns the component of a calendar object: "VEVENT", "VTODO", "VJOURNAL" or another.
// The error wraps holdfast.ErrInvalid: the body cannot be framed, has no component, or has several
// types (RFC 4791, 4.1); or it is ical.Object.CheckLimits'. Parse accepts all but the first; a server refuses
// them at the door.
func Component(body []byte) (string, error) {
	o, err := ical.Parse(body)
	if err != nil {
		return "", err
	}
	name, err := o.Type()
	if err != nil {
		return "", err
	}
	if name == "" {
		return "", fmt.Errorf("calendar object without a component: %w", holdfast.ErrInvalid)
	}
	return name, o.CheckLimits()
}
