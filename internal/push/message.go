package push

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/ledger"
)

// message is what one registration is told.
type message struct {
	body     []byte // nil: nothing
	upTo     holdfast.Seq
	last     bool   // the collection is gone
	replaces string // Topic header: one of the same kind about the same collection takes its place
}

// compose makes the messages of some registrations from one view.
func (s *subject) compose(v *ledger.View, list []due, out []message) error {
	head := v.Head().Head.Seq
	least := head
	for _, d := range list {
		least = min(least, d.told)
	}
	changed, err := v.ChangedSince(least)
	if err != nil {
		return err
	}
	newest := map[holdfast.CollectionID]ledger.Changed{}
	for _, c := range changed {
		newest[c.Collection.ID] = c
	}
	for i, d := range list {
		out[i].upTo = max(head, d.told)
		c, ok := newest[d.reg.Collection]
		switch {
		case ok && c.Last.Seq > d.told:
			if err := s.news(v, d, c, &out[i]); err != nil {
				return err
			}
		case !ok:
			_, err := v.Collection(d.reg.Collection)
			if errors.Is(err, holdfast.ErrNotFound) {
				out[i].last = true
				s.write(&out[i], d, true, false, "")
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// news decides whether a registration wants to hear of what changed, and writes it.
func (s *subject) news(v *ledger.View, d due, c ledger.Changed, m *message) error {
	touches, err := v.Touches(c.Collection.ID, d.told, maxMuted+1)
	if err != nil {
		return err
	}
	content, properties := len(touches) > maxMuted, false
	s.mu.Lock()
	for _, t := range touches {
		if _, muted := d.g.muted[t.Seq]; muted {
			continue
		}
		own := t.Self && (t.Seq == c.Collection.Seq || c.Collection.Kind != holdfast.KindFile) // else a folder in it came or went
		content = content || t.Members || t.Self && !own
		properties = properties || own
	}
	s.mu.Unlock()
	content, properties = content && d.reg.Triggers.Content, properties && d.reg.Triggers.Properties
	if content || properties {
		s.write(m, d, content, properties, s.p.cfg.Token(v, &c.Collection, c.Last))
	}
	return nil
}

// write makes the message (WebDAV-Push, "Push Message"). Nothing in it needs to be escaped: a topic is base64url,
// a token a URI of ours.
func (s *subject) write(m *message, d due, content, properties bool, token string) {
	topic := s.p.Topic(s.account, d.reg.Collection)
	b := fmt.Appendf(nil, `<?xml version="1.0" encoding="utf-8"?><push-message xmlns="https://bitfire.at/webdav-push" xmlns:D="DAV:"><topic>%s</topic>`, topic)
	kind := byte(0)
	if content {
		kind |= 1
		b = append(b, "<content-update>"...)
		if token != "" {
			b = fmt.Appendf(b, "<D:sync-token>%s</D:sync-token>", token)
		}
		b = append(b, "</content-update>"...)
	}
	if properties {
		kind |= 2
		b = append(b, "<property-update/>"...)
	}
	m.body = append(b, "</push-message>"...)
	// RFC 8030, section 5.4: the push service sees it, so it says nothing to who does not know the secret.
	h := hmac.New(sha256.New, d.reg.Secret)
	h.Write(append([]byte(topic), kind))
	m.replaces = b64.EncodeToString(h.Sum(nil))[:32]
}
