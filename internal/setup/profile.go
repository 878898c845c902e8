package setup

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"fmt"

	"holdfast"
	"holdfast/internal/dav"
)

// ProfileType is the media type by which Apple's devices know a configuration profile.
const ProfileType = "application/x-apple-aspen-config"

// Profile returns a configuration profile (Apple, Device Management: TopLevel, CardDAV, CalDAV) with one
// account for contacts and one for calendars. Identifiers and UUIDs follow from server and account alone,
// so that installing it again replaces the accounts instead of adding two more. It is not signed.
// Without a password the device asks for it, which is better: the file is kept in more places than one thinks.
func (f Facts) Profile(password string) ([]byte, error) {
	if f.Name == "" {
		return nil, fmt.Errorf("a profile is for one account: %w", holdfast.ErrInvalid)
	}
	id := "holdfast." + f.Server.String() + "." + f.Name
	account := func(p, payloadType, title string) dict {
		d := dict{
			{p + "AccountDescription", f.hostname()},
			{p + "HostName", f.hostname()},
			{p + "Port", plistInt(f.port())},
			{p + "PrincipalURL", dav.Base + "principals/" + f.Name + "/"},
			{p + "UseSSL", f.Secure()},
			{p + "Username", f.Name},
		}
		if password != "" {
			d = append(d, entry{p + "Password", password})
		}
		return append(d, f.payload(id+"."+p, payloadType, title, "Account "+f.Name+" on "+f.hostname()+".")...)
	}
	p := dict{{"PayloadContent", []dict{
		account("CardDAV", "com.apple.carddav.account", "Contacts"),
		account("CalDAV", "com.apple.caldav.account", "Calendars and reminders"),
	}}}
	p = append(p, f.payload(id, "Configuration", "Holdfast: "+f.Name+" on "+f.hostname(),
		"Contacts, calendars and reminders of "+f.Name+" on "+f.hostname()+". Removing it removes these accounts from the device and nothing from the server.")...)
	p = append(p, entry{"PayloadOrganization", f.hostname()})

	var b bytes.Buffer
	b.WriteString(xml.Header + `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n<plist version=\"1.0\">\n")
	p.write(&b)
	b.WriteString("</plist>\n")
	return b.Bytes(), nil
}

// payload is what every part of a profile says of itself.
func (f Facts) payload(id, payloadType, title, about string) dict {
	return dict{
		{"PayloadType", payloadType},
		{"PayloadVersion", plistInt("1")},
		{"PayloadIdentifier", id},
		{"PayloadUUID", uuid(id)},
		{"PayloadDisplayName", title},
		{"PayloadDescription", about},
	}
}

// uuid makes a UUID of a name (RFC 9562, 5.8: version 8, SHA-256).
func uuid(name string) string {
	h := sha256.Sum256([]byte("holdfast configuration profile\x00" + name))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// dict is a dictionary of a property list; values are strings, plistInt, bool or []dict.
type dict []entry

type entry struct {
	key   string
	value any
}

type plistInt string

func (d dict) write(b *bytes.Buffer) {
	text := func(tag, s string) {
		b.WriteString("<" + tag + ">")
		_ = xml.EscapeText(b, []byte(s)) // a buffer takes everything
		b.WriteString("</" + tag + ">\n")
	}
	b.WriteString("<dict>\n")
	for _, e := range d {
		text("key", e.key)
		switch v := e.value.(type) {
		case string:
			text("string", v)
		case plistInt:
			text("integer", string(v))
		case bool:
			fmt.Fprintf(b, "<%t/>\n", v)
		case []dict:
			b.WriteString("<array>\n")
			for _, d := range v {
				d.write(b)
			}
			b.WriteString("</array>\n")
		default:
			panic(fmt.Sprintf("setup: a property list has no %T", v))
		}
	}
	b.WriteString("</dict>\n")
}
