package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// errDAV marks an answer that a device cannot use: a hard error (SyncExceptionHandler.kt:220).
var errDAV = errors.New("unusable answer")

// service is one of the things a server offers an account: contacts, calendars, or a folder of
// photos (for which DAVx5 has no sync; the device treats it by the same rules).
type service struct {
	name      string // for /.well-known/; empty: found beside the contacts
	feature   string // in the DAV header of OPTIONS
	principal string
	homes     map[string]bool
	colls     map[string]*collection // by URL
	orphans   []*collection          // gone from the list; their data goes at the next sync
}

// sorted returns the collections by URL.
func (s *service) sorted() []*collection {
	all := make([]*collection, 0, len(s.colls))
	for _, u := range slices.Sorted(maps.Keys(s.colls)) {
		all = append(all, s.colls[u])
	}
	return all
}

// discover finds principal, home sets and collections from the bare address (DavResourceFinder.kt:119-187).
func (d *device) discover(ctx context.Context) error {
	d.services = [3]*service{
		{name: "carddav", feature: "addressbook"},
		{name: "caldav", feature: "calendar-access"},
		{name: "carddav"},
	}
	for _, s := range d.services {
		s.homes, s.colls = make(map[string]bool), make(map[string]*collection)
		if err := d.findPrincipal(ctx, s); err != nil {
			return fmt.Errorf("discover %s: %w", s.name, err)
		}
		if err := d.refresh(ctx, s); err != nil {
			return fmt.Errorf("list collections of %s: %w", s.name, err)
		}
	}
	for k := range kinds {
		if d.shelves[k] == nil {
			return fmt.Errorf("discover: the account has no collection for %s: %w", k, errDAV)
		}
	}
	return nil
}

// findPrincipal asks the address given and then the well-known one, and checks what the principal
// offers by OPTIONS (DavResourceFinder.kt:139-153, 326-356).
func (d *device) findPrincipal(ctx context.Context, s *service) error {
	var last error
	for _, at := range []string{"/", "/.well-known/" + s.name} {
		m, asked, err := d.remote.propfind(ctx, at, 0, `<resourcetype/><displayname/><current-user-principal/>`)
		if err != nil {
			last = err
			continue
		}
		for i := range m.Responses {
			if h := m.Responses[i].props().Principal.Hrefs; len(h) > 0 {
				s.principal = resolve(asked, h[0])
			}
		}
		if s.principal != "" {
			break
		}
	}
	if s.principal == "" {
		return fmt.Errorf("no principal (%w): %w", errDAV, last)
	}
	a, err := d.remote.do(ctx, "OPTIONS", s.principal, nil, nil)
	if err != nil {
		return err
	}
	if !strings.Contains(strings.Join(a.header.Values("DAV"), ","), s.feature) {
		return fmt.Errorf("principal does not offer %s: %w", s.feature, errDAV)
	}
	return nil
}

// refresh reads the list of collections again, as DAVx5 does now and then (RefreshCollectionsWorker.kt:164-172):
// home sets from the principal, collections from the home sets, then each collection that no home set listed.
func (d *device) refresh(ctx context.Context, s *service) error {
	if err := d.refreshHomes(ctx, s); err != nil {
		return err
	}
	for _, home := range slices.Sorted(maps.Keys(s.homes)) {
		if err := d.refreshHome(ctx, s, home); err != nil {
			return err
		}
	}
	for _, c := range s.sorted() {
		if c.home == "" {
			if err := d.probe(ctx, s, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// refreshHomes: ServiceRefresher.kt:99-168. A client error is ignored, any other aborts.
func (d *device) refreshHomes(ctx context.Context, s *service) error {
	m, asked, err := d.remote.propfind(ctx, s.principal, 0,
		`<displayname/><group-membership/><resourcetype/><C:calendar-home-set/><CARD:addressbook-home-set/>`)
	if n := status(err); n >= 400 && n < 500 {
		return nil
	}
	if err != nil {
		return err
	}
	for i := range m.Responses {
		p := m.Responses[i].props()
		homes := p.AddressHomes.Hrefs
		if s.name == "caldav" {
			homes = p.CalHomes.Hrefs
		}
		for _, h := range homes {
			s.homes[withSlash(resolve(asked, h))] = true
		}
	}
	return nil
}

// The properties asked of collections (ServiceDetectionUtils.kt).
const listProps = `<resourcetype/><displayname/><owner/><current-user-privilege-set/><sync-token/><C:supported-calendar-component-set/>`

// refreshHome: HomeSetRefresher.kt:59-120. 403, 404 and 410 forget the home set; any other status is
// ignored here, but then no collection was found again, so each one is probed by itself.
func (d *device) refreshHome(ctx context.Context, s *service, home string) error {
	left := make(map[string]*collection)
	for u, c := range s.colls {
		if c.home == home {
			left[u] = c
		}
	}
	m, asked, err := d.remote.propfind(ctx, home, 1, listProps)
	switch {
	case gone(err):
		delete(s.homes, home)
	case status(err) != 0:
	case err != nil:
		return err
	default:
		for i := range m.Responses {
			r := &m.Responses[i]
			if u := withSlash(resolve(asked, r.Href)); r.ok() {
				d.found(s, u, home, r.props())
				delete(left, u)
			}
		}
	}
	for _, c := range left {
		c.home = ""
	}
	return nil
}

// found keeps a collection that a listing showed, if the service can use it.
func (d *device) found(s *service, u, home string, p *prop) {
	k, usable := s.use(u, p)
	if !usable {
		return
	}
	c := s.colls[u]
	if c == nil {
		c = &collection{url: u, kind: k, items: make(map[string]*item)}
		s.colls[u] = c
		d.mu.Lock()
		if d.shelves[k] == nil {
			d.shelves[k] = c
		}
		d.mu.Unlock()
	}
	c.home = home
}

// use says what a service keeps in a collection, if it can use it (ServiceDetectionUtils.isUsableCollection).
func (s *service) use(u string, p *prop) (kind, bool) {
	t := p.Type
	switch {
	case s.feature == "addressbook":
		return contacts, t.Addressbook != nil
	case s.feature == "calendar-access" && p.holds("VEVENT"):
		return events, t.Calendar != nil
	case s.feature == "calendar-access":
		return todos, t.Calendar != nil && p.holds("VTODO")
	}
	return photos, t.Collection != nil && t.Addressbook == nil && t.Calendar == nil && lastSegment(u) == "Photos"
}

// probe: CollectionsWithoutHomeSetRefresher.kt:44-75. 403, 404, 410 or a response that says failure
// drop the collection, with all that the device holds of it.
func (d *device) probe(ctx context.Context, s *service, c *collection) error {
	m, _, err := d.remote.propfind(ctx, c.url, 0, listProps)
	if gone(err) {
		d.drop(s, c)
		return nil
	}
	if err != nil {
		return err
	}
	for i := range m.Responses {
		r := &m.Responses[i]
		if _, usable := s.use(c.url, r.props()); !r.ok() || !usable {
			d.drop(s, c)
		}
	}
	return nil
}

func (d *device) drop(s *service, c *collection) {
	if s.colls[c.url] == c {
		delete(s.colls, c.url)
		s.orphans = append(s.orphans, c)
	}
}

// deleteOrphans deletes the local data of collections that left the list (Syncer.kt:154-164), dirty or not.
func (d *device) deleteOrphans(s *service) {
	for _, c := range s.orphans {
		d.mu.Lock()
		n := len(c.items)
		for _, it := range c.items {
			d.deleteLocal(c, it)
		}
		if d.shelves[c.kind] == c {
			delete(d.shelves, c.kind)
			if again := s.colls[c.url]; again != nil {
				d.shelves[c.kind] = again
			}
		}
		d.mu.Unlock()
		d.say("the collection of its %s is not there any more: deletes all %d of them", c.kind, n)
	}
	s.orphans = nil
}

// resolve brings an href of an answer to its encoded path.
func resolve(asked, href string) string {
	base, err := url.Parse(asked)
	if err != nil {
		return encodedPath(href)
	}
	u, err := base.Parse(strings.TrimSpace(href))
	if err != nil {
		return encodedPath(href)
	}
	return u.EscapedPath()
}
