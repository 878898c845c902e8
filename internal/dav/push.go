package dav

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/push"
)

// WebDAV-Push, draft-bitfire-webdav-push of May 2026, over Web Push: a client registers where it wants to be told
// that a collection changed. Package push keeps the registrations and tells; here are the properties and
// the two requests.

const (
	nsPush       = "https://bitfire.at/webdav-push"
	pushClass    = ", webdav-push" // of the DAV header
	pushSegment  = "push"          // /dav/principals/NAME/push/ID is a registration
	maxPushBody  = 64 << 10
	dontNotify   = "Push-Dont-Notify"
	aes128gcm    = "aes128gcm"
	transportXML = `<x:web-push><x:vapid-public-key type="p256ecdsa">%s</x:vapid-public-key></x:web-push>`
)

func pushName(local string) xml.Name { return xml.Name{Space: nsPush, Local: local} }

// pushProps are in liveProps. Collections can be subscribed to, what is in them cannot.
var pushProps = []live{
	{name: pushName("transports"), write: onPushable(func(c *propContext, dst []byte) ([]byte, bool, error) {
		return fmt.Appendf(dst, transportXML, c.q.h.cfg.Push.Key()), true, nil
	})},
	{name: pushName("topic"), write: onPushable(func(c *propContext, dst []byte) ([]byte, bool, error) {
		return append(dst, c.q.h.cfg.Push.Topic(c.q.who.Account, c.t.coll.ID)...), true, nil
	})},
	{name: pushName("supported-triggers"), write: onPushable(constant(
		`<x:content-update><D:depth>1</D:depth></x:content-update><x:property-update><D:depth>0</D:depth></x:property-update>`))},
}

func onPushable(w writer) writer {
	return func(c *propContext, dst []byte) ([]byte, bool, error) {
		if c.t.place != placeCollection || c.q.h.cfg.Push.Key() == "" {
			return dst, false, nil
		}
		return w(c, dst)
	}
}

// pushMethod returns what serves a request that is about a registration; false: it is about something else.
func (q *request) pushMethod() (func(*request) error, bool) {
	if q.h.cfg.Push == nil {
		return nil, false
	}
	segs := q.path.segs
	if q.path.files {
		return nil, false
	}
	if len(segs) == 4 && segs[0] == principals && segs[2] == pushSegment {
		return unregisterPush, true
	}
	if q.Method == http.MethodPost && q.URL.RawQuery != addMember && isXML(q.Header.Get("Content-Type")) {
		return registerPush, true
	}
	return nil, false
}

func isXML(kind string) bool {
	kind = strings.ToLower(kind)
	return strings.HasPrefix(kind, "application/xml") || strings.HasPrefix(kind, "text/xml")
}

// registerPush serves POST of a push-register document to a collection.
func registerPush(q *request) error {
	if !q.owns(q.path) {
		return errNotFound
	}
	var coll *ledger.Collection
	if err := q.view(func(v *ledger.View) error {
		t, err := find(v, q.path)
		if err != nil {
			return err
		}
		if t.place == placeCollection {
			coll = t.coll
		}
		return nil
	}); err != nil {
		return err
	}
	body, err := q.xmlBody(maxPushBody)
	if err != nil {
		return err
	}
	if !body.is(pushName("push-register")) {
		return badRequest("POST takes a push-register document")
	}
	if coll == nil {
		return refuse(http.StatusForbidden, pushName("push-not-available"), "only collections can be subscribed to")
	}
	w, err := parsePushRegister(body)
	if err != nil {
		return err
	}
	who := push.Who{Account: q.who.Account, Name: q.who.Name, Device: q.who.Device}
	id, expires, made, err := q.h.cfg.Push.Register(q.Context(), who, coll.ID, w.subscription, w.triggers, w.expires)
	switch {
	case errors.Is(err, push.ErrSubscription):
		return refuse(http.StatusForbidden, pushName("invalid-subscription"), "nothing can be pushed there")
	case errors.Is(err, push.ErrUnavailable):
		return refuse(http.StatusForbidden, pushName("push-not-available"), "no further registration is possible now")
	case err != nil:
		return err
	}
	h := q.w.Header()
	h.Set("Location", q.origin()+string(appendPath(nil, []string{principals, q.who.Name, pushSegment, id}, false)))
	h.Set("Expires", expires.UTC().Format(http.TimeFormat))
	if made {
		return q.done(http.StatusCreated)
	}
	return q.done(http.StatusNoContent)
}

// unregisterPush serves DELETE of a registration.
func unregisterPush(q *request) error {
	if q.path.segs[1] != q.who.Name {
		return errNotFound
	}
	if q.Method != http.MethodDelete {
		return methodNotAllowed("DELETE", "a registration can only be removed")
	}
	if err := q.h.cfg.Push.Unregister(q.Context(), q.who.Account, q.path.segs[3]); err != nil {
		return err
	}
	q.proven = true
	return q.done(http.StatusNoContent)
}

// origin returns scheme and host that the client knows this server by: a registration URL is absolute.
func (q *request) origin() string {
	if q.h.cfg.Origin != "" {
		return q.h.cfg.Origin
	}
	if q.TLS != nil || strings.EqualFold(q.Header.Get("X-Forwarded-Proto"), "https") { // a client that lies deceives itself
		return "https://" + q.Host
	}
	return "http://" + q.Host
}

// pushWish is what a push-register document asks for.
type pushWish struct {
	subscription push.Subscription
	triggers     push.Triggers
	expires      time.Time // zero: not said
}

// parsePushRegister reads a push-register document.
//
// DAVx5 (source of 21 August 2026, PushRegistrationManager.kt) sends neither a trigger nor a content-encoding: without
// a trigger it is told of everything, and there is only one encoding.
func parsePushRegister(n *node) (*pushWish, error) {
	invalid := func(detail string) error {
		return refuse(http.StatusForbidden, pushName("invalid-subscription"), detail)
	}
	s := n.child(pushName("subscription")).child(pushName("web-push-subscription"))
	if s == nil {
		return nil, invalid("want a web-push-subscription")
	}
	if e := trimmed(s.child(pushName("content-encoding"))); e != "" && e != aes128gcm {
		return nil, invalid("content-encoding is not aes128gcm")
	}
	w := &pushWish{subscription: push.Subscription{Endpoint: trimmed(s.child(pushName("push-resource")))}}
	key := s.child(pushName("subscription-public-key"))
	if key == nil {
		return nil, invalid("without a subscription-public-key messages cannot be encrypted")
	}
	if t, ok := key.attr("type"); ok && t != "p256dh" {
		return nil, invalid("subscription-public-key is not of type p256dh")
	}
	var err1, err2 error
	w.subscription.Public, err1 = fromBase64(trimmed(key))
	w.subscription.Secret, err2 = fromBase64(trimmed(s.child(pushName("auth-secret"))))
	if err1 != nil || err2 != nil || w.subscription.Endpoint == "" {
		return nil, invalid("push-resource, subscription-public-key and auth-secret are needed")
	}
	if w.triggers = parseTriggers(n.child(pushName("trigger"))); w.triggers == (push.Triggers{}) {
		return nil, refuse(http.StatusForbidden, pushName("no-supported-trigger"), "want content-update or property-update")
	}
	if at, err := http.ParseTime(trimmed(n.child(pushName("expires")))); err == nil {
		w.expires = at
	}
	return w, nil
}

// parseTriggers reads what a client wants to hear of. Depths are taken as the nearest that there is.
func parseTriggers(n *node) push.Triggers {
	if n == nil {
		return push.Triggers{Content: true, Properties: true}
	}
	return push.Triggers{Content: n.child(pushName("content-update")) != nil, Properties: n.child(pushName("property-update")) != nil}
}

// fromBase64 reads base64url; clients differ in padding and alphabet.
func fromBase64(s string) ([]byte, error) {
	s = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "=")
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("not base64url: %w", holdfast.ErrInvalid)
	}
	return b, nil
}

// mutedUpdate is update for a request that names registrations which are not to be told of what it changes.
func (q *request) mutedUpdate(fn func(tx *ledger.Tx) error) error {
	release := q.h.cfg.Push.Hold(q.who.Account, q.Header.Values(dontNotify))
	var made holdfast.Seq
	defer func() { release(made) }()
	before := make(chan holdfast.Seq, 1)
	head, err := q.h.cfg.Ledger.Update(q.Context(), q.who.Account, q.who.Device, func(tx *ledger.Tx) error {
		before <- tx.Head().Head.Seq
		return fn(tx)
	})
	if err == nil && head.Seq > <-before { // else it changed nothing, and the head is somebody else's
		made = head.Seq
	}
	return err
}
