package push

import (
	"net/url"
	"strings"

	"holdfast"
)

// maxMuted bounds the changes that a registration wants not to hear of; what is beyond is told.
const maxMuted = 1024

// registrationsOf is where a DAV client finds the registrations of an account, below Config.Base.
const registrationsOf = "/push/"

// Hold is for one change that is about to be made by a request with a Push-Dont-Notify header (WebDAV-Push,
// "Suppressing Notifications"): the registrations it names are told nothing until release says which change
// it became, 0 for none, and nothing of that change then. Others are told at once.
func (p *Push) Hold(a holdfast.AccountID, header []string) (release func(made holdfast.Seq)) {
	if p == nil || len(header) == 0 {
		return func(holdfast.Seq) {}
	}
	s := p.book.subject(a)
	if s == nil {
		return func(holdfast.Seq) {}
	}
	ids, all := parseDontNotify(header)
	s.mu.Lock()
	defer s.mu.Unlock()
	var held []*enlisted
	for id, g := range s.regs {
		if all || ids[id] {
			g.holds++
			g.held++
			held = append(held, g)
		}
	}
	return func(made holdfast.Seq) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, g := range held {
			g.holds--
			if made > g.told && len(g.muted) < maxMuted {
				if g.muted == nil {
					g.muted = map[holdfast.Seq]struct{}{}
				}
				g.muted[made] = struct{}{}
			}
		}
		s.wake()
	}
}

// maxHeader bounds the registrations that one request names.
const maxHeader = 64

// parseDontNotify reads the registration URLs of Push-Dont-Notify headers, as the ids they end with. What
// cannot be read is left out.
func parseDontNotify(header []string) (ids map[string]bool, all bool) {
	ids = map[string]bool{}
	for _, line := range header {
		if strings.TrimSpace(line) == "*" {
			return nil, true
		}
		for len(ids) < maxHeader {
			value, rest, ok := quotedString(line)
			if !ok {
				break
			}
			line = rest
			u, err := url.Parse(value)
			if err != nil {
				continue
			}
			if i := strings.LastIndex(u.Path, registrationsOf); i >= 0 {
				ids[u.Path[i+len(registrationsOf):]] = true
			}
		}
	}
	return ids, false
}

// quotedString returns the next quoted string of a list (RFC 9110, section 5.6.4), and what is behind it.
func quotedString(s string) (value, rest string, ok bool) {
	_, s, ok = strings.Cut(s, `"`)
	if !ok {
		return "", "", false
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
