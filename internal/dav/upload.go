package dav

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/upload"
)

// Large files come in pieces, so that a device that was cut off need not begin again: Nextcloud's
// chunked upload, version 2 (docs/decisions/20261130-resumable-uploads.md). Below uploadsBase:
//
//	MKCOL  NAME/ID          begins an upload
//	PUT    NAME/ID/PIECE    stores a piece; again replaces it
//	PROPFIND NAME/ID        lists the pieces that are here
//	MOVE   NAME/ID/.file    makes them a file at Destination, as a PUT of the whole would
//	DELETE NAME/ID          gives it up

// wholeName stands for all pieces together.
const wholeName = ".file"

// uploadRequest is a request about an upload.
type uploadRequest struct {
	*request
	id    string
	piece string // empty: the upload itself
	room  int64  // bytes that the account may keep besides what it has; -1: no bound
}

const uploadMethods = "OPTIONS, MKCOL, PUT, PROPFIND, MOVE, DELETE"

// upload serves a path below uploadsBase.
func (q *request) upload(rest string) error {
	p, err := parsePath(Base + rest)
	if err != nil {
		return fmt.Errorf("parse path: %w", err)
	}
	// The fence first: a piece that cannot be found then says nothing (F3).
	u := &uploadRequest{request: q, room: -1}
	err = q.view(func(v *ledger.View) error {
		if left, bounded, err := q.room(v); bounded || err != nil {
			u.room = left
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if q.h.cfg.Uploads == nil || len(p.segs) < 2 || len(p.segs) > 3 || p.segs[0] != q.who.Name {
		return errNotFound
	}
	u.id = p.segs[1]
	if len(p.segs) == 3 {
		u.piece = p.segs[2]
	}
	if err := u.announced(); err != nil {
		return err
	}
	return uploadFault(u.serve())
}

func (u *uploadRequest) serve() error {
	area, who := u.h.cfg.Uploads, u.who.Account
	switch {
	case u.Method == http.MethodOptions:
		u.w.Header().Set("Allow", uploadMethods)
		return u.done(http.StatusOK)
	case u.Method == "MKCOL" && u.piece == "":
		if !u.drained() {
			return &fault{status: http.StatusUnsupportedMediaType, detail: "no body, please"}
		}
		if err := area.Create(who, u.id); err != nil {
			return err
		}
		return u.done(http.StatusCreated)
	case u.Method == http.MethodPut && u.piece != "":
		return u.put()
	case u.Method == "PROPFIND" && u.piece == "":
		return u.list()
	case u.Method == http.MethodDelete && u.piece == "":
		if err := area.Remove(who, u.id); err != nil {
			return err
		}
		return u.done(http.StatusNoContent)
	case u.Method == "MOVE" && u.piece == wholeName:
		return u.move()
	}
	return methodNotAllowed(uploadMethods, "an upload is begun with MKCOL, its pieces are PUT, and MOVE of .file makes them a file")
}

// uploadFault is what the errors of package upload mean here. Those it shares with all are in status.go.
func uploadFault(err error) error {
	switch {
	case errors.Is(err, upload.ErrBusy):
		return &fault{status: http.StatusLocked, detail: "the pieces are being put together, or a request for them has not ended yet: ask again in a moment"} // rclone waits on 423
	case errors.Is(err, upload.ErrMissing):
		return &fault{status: http.StatusConflict, detail: "not all pieces are here; PROPFIND of the upload lists those that are, send the others again"}
	}
	return err
}

// announced refuses at once what can never become a file.
func (u *uploadRequest) announced() error {
	n, err := u.total()
	if err != nil {
		return err
	}
	if n > u.h.cfg.MaxFile || u.ContentLength > u.h.cfg.MaxFile {
		return tooLarge(holdfast.KindFile)
	}
	if u.room >= 0 && n > u.room && u.Method != http.MethodDelete && u.Method != "MOVE" { // a MOVE may be a repeat
		return fmt.Errorf("upload of %d bytes, and there is room for %d: %w", n, u.room, holdfast.ErrQuota)
	}
	return nil
}

// total returns how long the client says the whole is; -1 if it does not say.
func (u *uploadRequest) total() (int64, error) {
	v := strings.TrimSpace(u.Header.Get("OC-Total-Length"))
	if v == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, badRequest("OC-Total-Length is not a number of bytes")
	}
	return n, nil
}

// put stores one piece. On 2xx it is on this server's disk, to be found after a crash.
func (u *uploadRequest) put() error {
	if err := checkPutHeader(u.Request); err != nil {
		return err
	}
	claims, err := parseDigests(u.Header)
	if err != nil {
		return err
	}
	client := &clientBody{r: u.Body}
	created, err := u.h.cfg.Uploads.Put(u.who.Account, u.id, u.piece, upload.Incoming{Body: checked(client, claims), Size: u.ContentLength, Room: u.room})
	switch {
	case client.err != nil:
		return badRequest("the body ended early")
	case err != nil:
		return err
	case created:
		return u.done(http.StatusCreated)
	}
	return u.done(http.StatusNoContent)
}

// list answers PROPFIND: which pieces are here, and how long each is.
func (u *uploadRequest) list() error {
	body, err := u.xmlBody(maxXML)
	if err != nil {
		return err
	}
	want, err := parsePropfind(body)
	if err != nil {
		return err
	}
	depth, err := u.depth("infinity")
	if err != nil {
		return err
	}
	pieces, err := u.h.cfg.Uploads.Pieces(u.who.Account, u.id)
	if err != nil {
		return err
	}
	m := u.multistatus()
	defer m.release()
	base := appendEscaped([]byte(uploadsBase), u.who.Name)
	base = append(appendEscaped(append(base, '/'), u.id), '/')
	m.plain(string(base), want, map[xml.Name]string{davName("resourcetype"): "<D:collection/>"})
	if depth != "0" {
		for _, p := range pieces {
			m.plain(string(base)+p.Name, want, map[xml.Name]string{
				davName("resourcetype"): "", davName("getcontentlength"): strconv.FormatInt(p.Size, 10),
			})
			if m.full() {
				if err := m.flush(); err != nil {
					return errAnswered
				}
			}
		}
	}
	return m.end(http.StatusMultiStatus)
}

// plain appends a response with properties whose values are known.
func (m *multistatus) plain(href string, want *selection, values map[xml.Name]string) {
	m.buf = append(append(append(m.buf, "<D:response><D:href>"...), href...), "</D:href>"+openFound...)
	for _, n := range []xml.Name{davName("resourcetype"), davName("getcontentlength")} {
		v, ok := values[n]
		asked := want.all || want.names
		for i := range want.wanted {
			asked = asked || want.wanted[i].name == n
		}
		if !ok || !asked {
			continue
		}
		open, end := tags(n)
		m.buf = append(append(append(append(append(m.buf, open...), '>'), v...), end...), '\n')
	}
	m.buf = append(m.buf, closeFound...)
	first := true
	for i := range want.wanted {
		w := &want.wanted[i]
		if _, ok := values[w.name]; ok {
			continue
		}
		if first {
			m.buf = append(m.buf, openFound...)
			first = false
		}
		m.buf = append(append(m.buf, w.open...), "/>"...)
	}
	if !first {
		m.buf = append(m.buf, closeNone...)
	}
	m.buf = append(m.buf, "</D:response>\n"...)
}

// move makes the pieces a file. It goes on when the client has lost patience or its connection: who
// asks again hears that it is under way, and then that it is done.
func (u *uploadRequest) move() error {
	to, err := destination(u.request)
	if err != nil {
		return err
	}
	q := *u.request
	q.path, q.Request = to, u.WithContext(context.WithoutCancel(u.Context()))
	w := &putWork{q: &q, kind: holdfast.KindFile}
	if w.cond, err = parseConditions(q.Header); err != nil {
		return err
	}
	if strings.EqualFold(strings.TrimSpace(q.Header.Get("Overwrite")), "F") && w.cond.noneMatch == nil {
		w.cond.noneMatch = &etags{any: true}
	}
	if w.sent, err = parseFileHeaders(q.Header); err != nil {
		return err
	}
	length, err := u.total()
	if err != nil {
		return err
	}
	parent, err := q.putParent(w.cond)
	if err != nil {
		return err
	}
	if parent.Kind != holdfast.KindFile {
		return forbidden("only files are uploaded in pieces")
	}
	done, err := q.h.cfg.Uploads.Finish(q.who.Account, u.id, length, w.whole)
	switch {
	case err != nil:
		return err
	case done != nil:
		return w.already(done)
	case w.created:
		w.answerHeaders()
		return q.done(http.StatusCreated)
	}
	w.answerHeaders()
	return q.done(http.StatusNoContent)
}

// whole stores all pieces as one body, like that of any PUT.
func (w *putWork) whole(body io.Reader, size int64) (upload.Done, error) {
	if size > w.q.h.cfg.MaxFile {
		return upload.Done{}, tooLarge(w.kind)
	}
	err := w.q.view(func(v *ledger.View) error { return w.q.mayFit(v, size) })
	if err != nil {
		return upload.Done{}, err
	}
	if w.body, err = w.q.putBlob(checked(body, w.sent.claims), w.q.h.cfg.MaxFile); err != nil {
		return upload.Done{}, err
	}
	if err := w.store(); err != nil {
		return upload.Done{}, err
	}
	return upload.Done{Body: w.body.Hash.String()}, nil
}

// already answers a MOVE that was done before, whose answer was lost: the file is there, or it has been
// replaced or removed since and the upload is no more.
func (w *putWork) already(done *upload.Done) error {
	err := w.q.view(func(v *ledger.View) error {
		t, err := find(v, w.q.path)
		if err != nil {
			return err
		}
		if t.place != placeResource || t.res.Body.String() != done.Body {
			return errNotFound
		}
		w.body.Hash = t.res.Body
		return nil
	})
	if err != nil {
		return err
	}
	w.answerHeaders()
	return w.q.done(http.StatusNoContent)
}
