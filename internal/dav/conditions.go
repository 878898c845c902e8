package dav

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast"
)

// state is what a precondition is judged by.
type state struct {
	exists   bool
	etag     string // quoted; empty for a collection
	modified int64  // milliseconds since 1970 UTC
	at       *target
}

// conditions are the preconditions of a request (RFC 9110, 13; RFC 4918, 10.4).
type conditions struct {
	match, noneMatch *etags
	unmodified       time.Time // zero: none
	lists            []ifList  // of the If header
}

// etags is a list of entity tags, or "*".
type etags struct {
	any  bool
	tags []string // with their quotes, and W/ if weak
}

// ifList is one list of an If header: all its conditions hold, or it is false.
type ifList struct {
	href       string // the resource it is about; empty for that of the request
	conditions []ifCondition
}

type ifCondition struct {
	not   bool
	token string // a lock or sync token, or
	etag  string
}

const maxIfLists = 64

// parseConditions reads the preconditions that writes are judged by. A header that cannot be
// understood is ErrInvalid: a write must not go ahead without its condition.
func parseConditions(h http.Header) (*conditions, error) {
	c := &conditions{}
	var err error
	if c.match, err = parseETags(h, "If-Match"); err != nil {
		return nil, err
	}
	if c.noneMatch, err = parseETags(h, "If-None-Match"); err != nil {
		return nil, err
	}
	if v := h.Get("If-Unmodified-Since"); v != "" && c.match == nil {
		// RFC 9110, 13.1.4: ignored if it is no date.
		if t, err := http.ParseTime(v); err == nil {
			c.unmodified = t
		}
	}
	if v := strings.Join(h.Values("If"), " "); v != "" {
		if c.lists, err = parseIf(v); err != nil {
			return nil, fmt.Errorf("if header: %w", err)
		}
	}
	return c, nil
}

func parseETags(h http.Header, key string) (*etags, error) {
	values := h.Values(key)
	if len(values) == 0 {
		return nil, nil
	}
	s := strings.TrimSpace(strings.Join(values, ","))
	if s == "*" {
		return &etags{any: true}, nil
	}
	e := &etags{}
	for s != "" {
		if s[0] == ',' || s[0] == ' ' || s[0] == '\t' {
			s = s[1:]
			continue
		}
		tag, rest, err := cutETag(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if tag == `"*"` {
			// No tag of ours. Clients that quote the star mean it, and a PUT that should only create must not replace.
			return &etags{any: true}, nil
		}
		e.tags = append(e.tags, tag)
		s = rest
	}
	if len(e.tags) == 0 {
		return nil, fmt.Errorf("%s without a tag: %w", key, holdfast.ErrInvalid)
	}
	return e, nil
}

// cutETag takes an entity tag off s. One without quotes is taken as if it had them: it can only match what it names.
func cutETag(s string) (tag, rest string, err error) {
	start := 0
	if strings.HasPrefix(s, "W/") {
		start = 2
	}
	if start < len(s) && s[start] == '"' {
		end := strings.IndexByte(s[start+1:], '"')
		if end < 0 {
			return "", "", fmt.Errorf("entity tag without its end: %w", holdfast.ErrInvalid)
		}
		end += start + 2
		return s[:end], s[end:], nil
	}
	end := strings.IndexAny(s, ", \t")
	if end < 0 {
		end = len(s)
	}
	if start > 0 || strings.ContainsAny(s[:end], `"*`) {
		return "", "", fmt.Errorf("entity tag: %w", holdfast.ErrInvalid)
	}
	return `"` + s[:end] + `"`, s[end:], nil
}

// strong compares as RFC 9110, 8.8.3.2 wants for If-Match: a weak tag never matches.
func (e *etags) strong(s state) bool {
	if e.any {
		return s.exists
	}
	for _, t := range e.tags {
		if s.exists && s.etag != "" && t == s.etag {
			return true
		}
	}
	return false
}

func (e *etags) weak(s state) bool {
	if e.any {
		return s.exists
	}
	for _, t := range e.tags {
		if s.exists && s.etag != "" && strings.TrimPrefix(t, "W/") == s.etag {
			return true
		}
	}
	return false
}

// none reports whether the request has no precondition.
func (c *conditions) none() bool {
	return c.match == nil && c.noneMatch == nil && c.unmodified.IsZero() && len(c.lists) == 0
}

// judge answers what the lists of an If header ask.
type judge interface {
	// state returns the state of what a list names besides the request's own resource.
	state(href string) (state, error)
	// token reports whether a state token is one of a resource (RFC 4918, 10.4.4).
	token(s state, token string) (bool, error)
}

// tokens reports whether an If header has state tokens.
func (c *conditions) tokens() bool {
	for i := range c.lists {
		for _, x := range c.lists[i].conditions {
			if x.token != "" {
				return true
			}
		}
	}
	return false
}

// submits reports whether a lock token was submitted: it stands anywhere in the If header (RFC 4918, 6.4).
func (c *conditions) submits(token string) bool {
	for i := range c.lists {
		for _, x := range c.lists[i].conditions {
			if x.token == token {
				return true
			}
		}
	}
	return false
}

// check judges a request about the resource in state s. ErrPrecondition: do not do it.
func (c *conditions) check(s state, j judge) error {
	if c.match != nil && !c.match.strong(s) {
		return fmt.Errorf("if-match: %w", holdfast.ErrPrecondition)
	}
	if c.noneMatch != nil && c.noneMatch.weak(s) {
		return fmt.Errorf("if-none-match: %w", holdfast.ErrPrecondition)
	}
	if !c.unmodified.IsZero() && s.exists && s.modified/1000 > c.unmodified.Unix() {
		return fmt.Errorf("if-unmodified-since: %w", holdfast.ErrPrecondition)
	}
	if len(c.lists) == 0 {
		return nil
	}
	for _, l := range c.lists {
		at := s
		if l.href != "" {
			var err error
			if at, err = j.state(l.href); err != nil {
				return err
			}
		}
		if ok, err := l.holds(at, j); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("if: %w", holdfast.ErrPrecondition)
}

// holds judges one list. A token that nobody knows is no resource's, DAV:no-lock among them.
func (l *ifList) holds(s state, j judge) (bool, error) {
	for _, c := range l.conditions {
		ok := c.etag != "" && s.exists && s.etag != "" && c.etag == s.etag
		if c.token != "" {
			var err error
			if ok, err = j.token(s, c.token); err != nil {
				return false, err
			}
		}
		if ok == c.not {
			return false, nil
		}
	}
	return true, nil
}

// parseIf reads an If header (RFC 4918, 10.4.2).
func parseIf(s string) ([]ifList, error) {
	var lists []ifList
	href := ""
	tagged := false
	for s = skipSpace(s); s != ""; s = skipSpace(s) {
		switch s[0] {
		case '<':
			if len(lists) > 0 && !tagged {
				return nil, fmt.Errorf("tagged list after one without a tag: %w", holdfast.ErrInvalid)
			}
			end := strings.IndexByte(s, '>')
			if end <= 1 {
				return nil, fmt.Errorf("resource tag: %w", holdfast.ErrInvalid)
			}
			tagged, href, s = true, s[1:end], s[end+1:]
			if t := skipSpace(s); t == "" || t[0] != '(' {
				return nil, fmt.Errorf("resource tag without a list: %w", holdfast.ErrInvalid)
			}
		case '(':
			l, rest, err := parseIfList(s[1:])
			if err != nil {
				return nil, err
			}
			l.href = href
			if lists = append(lists, l); len(lists) > maxIfLists {
				return nil, fmt.Errorf("too many lists: %w", holdfast.ErrInvalid)
			}
			s = rest
		default:
			return nil, fmt.Errorf("neither list nor tag: %w", holdfast.ErrInvalid)
		}
	}
	if len(lists) == 0 {
		return nil, fmt.Errorf("empty: %w", holdfast.ErrInvalid)
	}
	return lists, nil
}

// parseIfList reads the conditions up to the closing parenthesis.
func parseIfList(s string) (l ifList, rest string, err error) {
	for s = skipSpace(s); ; s = skipSpace(s) {
		var c ifCondition
		if len(s) >= 3 && strings.EqualFold(s[:3], "not") {
			c.not, s = true, skipSpace(s[3:])
		}
		if s == "" {
			return l, "", fmt.Errorf("list without its end: %w", holdfast.ErrInvalid)
		}
		switch s[0] {
		case '<':
			end := strings.IndexByte(s, '>')
			if end <= 1 {
				return l, "", fmt.Errorf("state token: %w", holdfast.ErrInvalid)
			}
			c.token, s = s[1:end], s[end+1:]
		case '[':
			tag, after, err := cutETag(s[1:])
			if err != nil || !strings.HasPrefix(after, "]") {
				return l, "", fmt.Errorf("entity tag: %w", holdfast.ErrInvalid)
			}
			c.etag, s = tag, after[1:]
		case ')':
			if c.not || len(l.conditions) == 0 {
				return l, "", fmt.Errorf("empty list: %w", holdfast.ErrInvalid)
			}
			return l, s[1:], nil
		default:
			return l, "", fmt.Errorf("condition: %w", holdfast.ErrInvalid)
		}
		if l.conditions = append(l.conditions, c); len(l.conditions) > maxIfLists {
			return l, "", fmt.Errorf("too many conditions: %w", holdfast.ErrInvalid)
		}
	}
}

func skipSpace(s string) string { return strings.TrimLeft(s, " \t") }
