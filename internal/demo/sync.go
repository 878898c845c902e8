package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// batch is how many members one multiget asks for (SyncManager.kt:795, MULTIGET_BATCH_SIZE).
const batch = 10

// syncCollection: SyncManager.kt:147-214 (performSync).
func (d *device) syncCollection(ctx context.Context, c *collection) error {
	remoteToken, canSync, err := d.capabilities(ctx, c)
	if err != nil {
		return err
	}
	told, err := d.sendDeletions(ctx, c)
	if err != nil {
		return err
	}
	sent, err := d.sendDirty(ctx, c)
	if err != nil {
		return err
	}
	switch {
	case !told && !sent && remoteToken != "" && remoteToken == c.token && !c.initial: // syncRequired, SyncManager.kt:476-493
		return nil
	case canSync:
		return d.syncChanges(ctx, c)
	}
	return d.syncListing(ctx, c, remoteToken)
}

// capabilities: BaseWebDavCollection.kt:68-94 (queryCapabilities).
func (d *device) capabilities(ctx context.Context, c *collection) (token string, canSync bool, err error) {
	m, _, err := d.remote.propfind(ctx, c.url, 0,
		`<supported-report-set/><sync-token/><CS:getctag/><C:max-resource-size/><CARD:max-resource-size/><CARD:supported-address-data/>`)
	if err != nil {
		return "", false, err
	}
	for i := range m.Responses {
		if r := &m.Responses[i]; samePath(r.Href, c.url) {
			return r.props().SyncToken, r.props().canSync(), nil
		}
	}
	return "", false, nil
}

// sendDeletions: SyncManager.kt:246-282. Whatever the server answers, the item goes from the device;
// only an I/O error keeps it.
func (d *device) sendDeletions(ctx context.Context, c *collection) (told bool, err error) {
	for _, it := range d.pick(c, func(it *item) bool { return it.deleted }) {
		if it.uploaded {
			header := map[string]string{}
			if it.etag != "" {
				header["If-Match"] = it.etag
			}
			d.journal.deleteTried(c.path(it.name), c.kind)
			began := time.Now()
			a, err := d.remote.do(ctx, http.MethodDelete, c.path(it.name), header, nil)
			switch {
			case err == nil:
				d.journal.deleteAcked(c.path(it.name), c.kind)
				d.journal.acknowledgedBy(a.host, began)
				told = true
			case status(err) == 0:
				return told, err
			}
		}
		d.mu.Lock()
		delete(c.items, it.name)
		d.mu.Unlock()
	}
	return told, nil
}

// pick returns copies of the items that match, by name.
func (d *device) pick(c *collection, match func(*item) bool) []item {
	d.mu.Lock()
	defer d.mu.Unlock()
	var some []item
	for _, it := range c.items {
		if match(it) {
			some = append(some, *it)
		}
	}
	slices.SortFunc(some, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return some
}

// sendDirty: SyncManager.kt:292-307.
func (d *device) sendDirty(ctx context.Context, c *collection) (sent bool, err error) {
	for _, it := range d.pick(c, func(it *item) bool { return it.dirty && !it.deleted }) {
		if err := d.upload(ctx, c, it, false); err != nil {
			return sent, err
		}
		sent = true
	}
	return sent, nil
}

// upload: SyncManager.kt:317-414. 412 and 409 are ignored (the download then wins), 403 only with
// need-privileges; 404 and 410 try once more as a new resource.
func (d *device) upload(ctx context.Context, c *collection, it item, asNew bool) error {
	header := map[string]string{"Content-Type": c.kind.contentType()}
	switch {
	case asNew || !it.uploaded:
		header["If-None-Match"] = "*" // BaseWebDavCollection.kt:57-59
	case it.etag != "":
		header["If-Match"] = it.etag
	}
	path := c.path(it.name)
	d.journal.putTried(path, c.kind, it.body)
	began := time.Now()
	a, err := d.remote.do(ctx, http.MethodPut, path, header, it.body)
	if err == nil {
		d.journal.putAcked(path, c.kind, it.body)
		d.journal.acknowledgedBy(a.host, began)
		d.uploaded(c, it, a.header.Get("ETag"))
		return nil
	}
	e, ok := err.(*statusError)
	switch {
	case !ok:
		return err
	case e.Status == http.StatusForbidden && e.NeedPrivileges,
		e.Status == http.StatusConflict, e.Status == http.StatusPreconditionFailed:
		return nil
	case (e.Status == http.StatusNotFound || e.Status == http.StatusGone) && !asNew:
		return d.upload(ctx, c, it, true)
	}
	return err
}

// uploaded clears the dirty flag unless the person wrote again meanwhile (SyncManager.kt:440-455).
func (d *device) uploaded(c *collection, sent item, etag string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acks++
	it := c.items[sent.name]
	if it == nil {
		return
	}
	it.uploaded, it.etag = true, etag
	if &it.body[0] == &sent.body[0] {
		it.dirty = false
	}
}

// syncChanges: SyncManager.kt:603-654 (syncCollectionSync).
func (d *device) syncChanges(ctx context.Context, c *collection) error {
	initial := c.initial
	if c.token == "" {
		initial = true
		d.resetPresent(c)
	}
	for more := true; more; {
		m, err := d.remote.reportChanges(ctx, c.url, c.token)
		if e, ok := err.(*statusError); ok && e.ValidSyncToken {
			d.restarted(c)
			initial = true
			d.resetPresent(c)
			m, err = d.remote.reportChanges(ctx, c.url, "")
		}
		if err != nil {
			return err
		}
		if more, err = d.processChanges(ctx, c, m); err != nil {
			return err
		}
		if m.SyncToken == "" {
			return fmt.Errorf("sync-collection answer without sync-token: %w", errDAV)
		}
		c.token, c.initial = m.SyncToken, initial
	}
	if initial {
		d.deleteNotPresent(c)
		c.initial = false
	}
	return nil
}

func (d *device) restarted(c *collection) {
	d.mu.Lock()
	d.restart++
	d.mu.Unlock()
	d.say("sync token of its %s refused: starts over", c.kind)
}

// resetPresent: SyncManager.kt:511-514; rows that are dirty keep their mark (LocalAddressBook.kt:113-124).
func (d *device) resetPresent(c *collection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, it := range c.items {
		if !it.dirty {
			it.present = false
		}
	}
}

// deleteNotPresent: SyncManager.kt:530-533 with LocalAddressBook.kt:126-136: every item that is neither
// dirty nor was listed. There is no limit to how many.
func (d *device) deleteNotPresent(c *collection) {
	d.mu.Lock()
	n := 0
	for _, it := range c.items {
		if !it.dirty && !it.deleted && !it.present {
			d.deleteLocal(c, it)
			n++
		}
	}
	d.mu.Unlock()
	if n > 0 {
		d.say("deletes %d %s that the server does not list", n, c.kind)
	}
}

// processChanges: SyncManager.kt:677-714 with the sorting of BaseWebDavCollection.kt:108-141.
func (d *device) processChanges(ctx context.Context, c *collection, m *multistatus) (more bool, err error) {
	var wanted []string
	for i := range m.Responses {
		r := &m.Responses[i]
		p := r.props()
		switch {
		case samePath(r.Href, c.url):
			more = more || code(r.Status) == http.StatusInsufficientStorage
		case p.Type.Collection != nil:
		case code(r.Status) == http.StatusNotFound:
			d.removedRemotely(c, lastSegment(r.Href))
		case r.ok() && p.ETag == "":
			return false, fmt.Errorf("changed member without ETag: %w", errDAV)
		case r.ok() && d.wants(c, lastSegment(r.Href), p.ETag):
			wanted = append(wanted, r.Href)
		}
	}
	return more, d.download(ctx, c, wanted)
}

// removedRemotely: SyncManager.kt:719-726.
func (d *device) removedRemotely(c *collection, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if it := c.items[name]; it != nil {
		d.deleteLocal(c, it)
	}
}

// wants: SyncManager.kt:743-764 (decideDownload).
func (d *device) wants(c *collection, name, etag string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := c.items[name]
	if it == nil {
		return true
	}
	it.present = true
	return it.etag != etag
}

// download fetches members, ten at a time; photos one by one.
func (d *device) download(ctx context.Context, c *collection, wanted []string) error {
	for some := range slices.Chunk(wanted, batch) {
		if c.kind == photos {
			if err := d.get(ctx, c, some); err != nil {
				return err
			}
			continue
		}
		m, err := d.remote.multiget(ctx, c.url, c.kind == contacts, some)
		if err != nil {
			return err
		}
		for i := range m.Responses {
			r := &m.Responses[i]
			p := r.props()
			data := p.CalendarData
			if c.kind == contacts {
				data = p.AddressData
			}
			if r.ok() && data != nil && !samePath(r.Href, c.url) {
				d.keep(c, lastSegment(r.Href), p.ETag, []byte(*data))
			}
		}
	}
	return nil
}

func (d *device) get(ctx context.Context, c *collection, wanted []string) error {
	for _, href := range wanted {
		a, err := d.remote.do(ctx, http.MethodGet, encodedPath(href), nil, nil)
		if status(err) == http.StatusNotFound {
			continue // gone since it was listed, as a multiget says in its answer
		}
		if err != nil {
			return err
		}
		d.keep(c, lastSegment(href), a.header.Get("ETag"), a.body)
	}
	return nil
}

// keep stores what was downloaded; it replaces a local version, dirty or not.
func (d *device) keep(c *collection, name, etag string, body []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.items[name] = &item{name: name, body: body, etag: etag, uploaded: true, present: true}
}

// syncListing: SyncManager.kt:543-570 (syncPropfindReport), for a server without sync-collection.
func (d *device) syncListing(ctx context.Context, c *collection, token string) error {
	d.resetPresent(c)
	m, _, err := d.remote.propfind(ctx, c.url, 1, `<resourcetype/><getetag/>`)
	if err != nil {
		return err
	}
	if _, err := d.processChanges(ctx, c, m); err != nil {
		return err
	}
	d.deleteNotPresent(c)
	c.token = token
	return nil
}
