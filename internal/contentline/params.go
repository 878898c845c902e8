package contentline

import "bytes"

// Params iterates over the parameters of a line, one value at a time.
type Params struct {
	rest []byte
	name []byte // of the list being read
	more bool   // further values of name follow
}

// Next returns the next value of a parameter: TYPE=HOME,WORK yields two. Quotes are removed, RFC
// 6868 carets decoded. A parameter without '=' (vCard 2.1) gets the name it stands for: ENCODING,
// VALUE or TYPE.
func (p *Params) Next() (name, value []byte, ok bool) {
	if p.more {
		return p.name, p.value(), true
	}
	for len(p.rest) > 0 && p.rest[0] == ';' {
		p.rest = p.rest[1:]
		end := bytes.IndexAny(p.rest, "=;,\"")
		if end < 0 || p.rest[end] != '=' {
			v := p.value()
			if len(v) == 0 && !p.more {
				continue // ";;" or a trailing ';'
			}
			p.name = bareName(v)
			return p.name, v, true
		}
		p.name, p.rest = bytes.TrimSpace(p.rest[:end]), p.rest[end+1:]
		return p.name, p.value(), true
	}
	p.rest = nil
	return nil, nil, false
}

// value reads one value up to ',', ';' or the end.
func (p *Params) value() []byte {
	p.more = false
	end, quoted := valueEnd(p.rest)
	v := p.rest[:end]
	p.rest = p.rest[end:]
	if len(p.rest) > 0 && p.rest[0] == ',' {
		p.rest, p.more = p.rest[1:], true
	}
	if quoted {
		v = unquote(v)
	}
	if bytes.IndexByte(v, '^') >= 0 {
		v = decodeCaret(v)
	}
	return v
}

func valueEnd(b []byte) (end int, quoted bool) {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case ',', ';':
			return i, quoted
		case '"':
			closing := bytes.IndexByte(b[i+1:], '"')
			if closing < 0 {
				continue // never closed: an ordinary character
			}
			quoted = true
			i += closing + 1
		}
	}
	return len(b), quoted
}

// unquote removes the quotes; a value quoted in part only keeps its parts joined.
func unquote(b []byte) []byte {
	if len(b) >= 2 && b[0] == '"' && bytes.IndexByte(b[1:], '"') == len(b)-2 {
		return b[1 : len(b)-1]
	}
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c != '"' {
			out = append(out, c)
		}
	}
	return out
}

// decodeCaret undoes RFC 6868, 3.1: ^n is a line break, ^^ a caret, ^' a quote; any other caret
// stands for itself (3.2).
func decodeCaret(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '^' && i+1 < len(b) {
			switch b[i+1] {
			case 'n':
				out = append(out, '\n')
				i++
				continue
			case '^':
				out = append(out, '^')
				i++
				continue
			case '\'':
				out = append(out, '"')
				i++
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

var (
	nameType     = []byte("TYPE")
	nameEncoding = []byte("ENCODING")
	nameValue    = []byte("VALUE")
)

// bareName names a vCard 2.1 parameter that is written as its value alone.
func bareName(v []byte) []byte {
	for _, s := range []string{"QUOTED-PRINTABLE", "BASE64", "7BIT", "8BIT"} {
		if EqualFoldString(v, s) {
			return nameEncoding
		}
	}
	for _, s := range []string{"INLINE", "URL", "CONTENT-ID", "CID"} {
		if EqualFoldString(v, s) {
			return nameValue
		}
	}
	return nameType
}

// Param returns the first value of the parameter, nil if the line does not have it.
func (l *Line) Param(name string) []byte {
	if len(l.params) == 0 {
		return nil
	}
	p := l.Params()
	for {
		n, v, ok := p.Next()
		if !ok {
			return nil
		}
		if EqualFoldString(n, name) {
			if v == nil {
				v = []byte{}
			}
			return v
		}
	}
}
