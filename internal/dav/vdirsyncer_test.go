package dav

import (
	"net/http"
	"strings"
	"testing"
)

// vdirsyncer as of its commit 0d69ab9b. Lines are of vdirsyncer/storage/dav.py unless another file is named. The real
// program of Debian runs against the built server in tests/phone_test.go; here it meets what cannot be arranged there.
type vdirsyncer struct {
	*replica
	home   string
	status map[string]string // ETag of the last sync, by path (sync/status.py)
}

func TestModelVdirsyncer(t *testing.T) {
	s := newServer(t)
	v := &vdirsyncer{replica: newReplica(t, s, "vdirsyncer/0.20"), status: map[string]string{}}
	play(t, s, v)

	// Discover.create, _create_collection_impl: extended MKCOL in the home; a storage is never deleted by it.
	v.ask("MKCOL", v.home+"made", `<?xml version="1.0" encoding="utf-8" ?><mkcol xmlns="DAV:"><set><prop><resourcetype><collection/><ns0:calendar xmlns:ns0="urn:ietf:params:xml:ns:caldav"/></resourcetype></prop></set></mkcol>`).want(201)
	v.ask("PROPFIND", v.home, `<propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>`, "Depth: 1").want(207).has("/dav/anna/made/")
}

func (v *vdirsyncer) conflicts() bool { return true } // sync/__init__.py, ResolveConflict: raises SyncConflict
func (v *vdirsyncer) lists() bool     { return true }

// discover: Discover.find_principal tries the URL that was given and then the well-known one, then the home and its
// collections (Discover.find_home, find_collections). Depth is 0, 0 and 1.
func (v *vdirsyncer) discover() {
	const principal = `<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>`
	a, _ := v.followed("/.well-known/caldav", principal, "0")
	p := hrefIn(v.t, a, "current-user-principal")
	a = v.ask("PROPFIND", p, `<propfind xmlns="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><prop><c:calendar-home-set/></prop></propfind>`, "Depth: 0")
	v.home = hrefIn(v.t, a, "calendar-home-set")
	v.ask("PROPFIND", v.home, `<propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>`, "Depth: 1").want(207).has(modelCal)
}

// poll: sync/__init__.py, sync: a list of the storage, then the actions of _get_actions. Any status from 400 on raises
// (http.py, request: raise_for_status), in the list before anything was done.
func (v *vdirsyncer) poll() {
	a := v.ask("PROPFIND", modelCal, `<?xml version="1.0" encoding="utf-8" ?><propfind xmlns="DAV:"><prop><resourcetype/><getcontenttype/><getetag/></prop></propfind>`, "Depth: 1")
	if v.failed(a, http.StatusMultiStatus) {
		return
	}
	remote := map[string]string{}
	for _, r := range a.multi().Responses {
		if p := r.Propstats[0].Prop; p.ETag != "" && strings.Contains(p.Type, "calendar") && !strings.HasSuffix(r.Href, "/") {
			remote[decoded(v.t, r.Href)] = p.ETag
		}
	}
	if len(v.status) > 0 && len(remote) == 0 && len(v.things) > 0 {
		return // sync: StorageEmpty
	}
	var wanted []string
	for path, etag := range remote {
		th, known := v.things[path], v.status[path] != ""
		changed := v.status[path] != etag
		switch {
		case th == nil, th.gone && changed, known && changed && !th.dirty:
			wanted = append(wanted, path)
		case th.gone:
			if !v.failed(v.ask("DELETE", path, "", "If-Match: "+etag), 200, 204) { // DAVStorage.delete
				delete(v.things, path)
				delete(v.status, path)
			}
		case th.dirty && (!changed || th.etag == etag):
			v.put(path, th, "If-Match: "+etag)
		case th.dirty: // ResolveConflict: the same on both sides, as after a 503 whose write was kept; or SyncConflict
			if v.ask("GET", path, "").body == th.body {
				th.dirty, th.etag, v.status[path] = false, etag, etag
			}
		}
	}
	for path, th := range v.things {
		if remote[path] != "" || th.gone {
			continue
		}
		if th.dirty {
			v.put(path, th, "If-None-Match: *") // new here, or deleted there and changed here: Upload
		} else if v.status[path] != "" {
			v.drop(path) // deleted there and unchanged here: Delete
			delete(v.status, path)
		}
	}
	if v.multiget(modelCal, wanted, 1<<20) { // DAVStorage.get_multi sends no Depth
		for _, path := range wanted {
			v.status[path] = v.things[path].etag
		}
	}
}

// put: DAVStorage._put.
func (v *vdirsyncer) put(path string, th *thing, precondition string) {
	a := v.ask("PUT", path, th.body, precondition)
	if v.failed(a, 200, 201, 204) {
		return
	}
	th.dirty, th.etag = false, a.header.Get("ETag")
	v.status[path] = th.etag
}
