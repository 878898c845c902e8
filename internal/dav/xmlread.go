package dav

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"holdfast"
)

// Bounds of an XML request. A request that breaks one is refused before it costs memory.
const (
	maxXML      = 1 << 20  // bytes of a request
	maxReport   = 10 << 20 // bytes of a REPORT: a multiget may name tens of thousands of resources
	maxElements = 100_000
	maxPieces   = 100_000 // attributes, and texts that comments or CDATA sections cut in two
	maxDepth    = 64
	maxAttrs    = 64
	maxBindings = 256 // namespace declarations in scope
)

// node is an element of a request, or a piece of text if its name is empty.
type node struct {
	name  xml.Name
	attrs []xml.Attr // resolved, without namespace declarations
	text  string
	kids  []node
}

func (n *node) is(name xml.Name) bool { return n != nil && n.name == name }

// child returns the first element of a name, or nil.
func (n *node) child(name xml.Name) *node {
	if n == nil {
		return nil
	}
	for i := range n.kids {
		if n.kids[i].name == name {
			return &n.kids[i]
		}
	}
	return nil
}

// elements returns the child elements, without the text between them.
func (n *node) elements() []*node {
	if n == nil {
		return nil
	}
	out := make([]*node, 0, len(n.kids))
	for i := range n.kids {
		if n.kids[i].name.Local != "" {
			out = append(out, &n.kids[i])
		}
	}
	return out
}

// content returns the text directly inside the element.
func (n *node) content() string {
	switch {
	case n == nil || len(n.kids) == 0:
		return ""
	case len(n.kids) == 1:
		return n.kids[0].text
	}
	var b strings.Builder
	for i := range n.kids {
		b.WriteString(n.kids[i].text)
	}
	return b.String()
}

// attr returns the value of an attribute without namespace, and whether it is there.
func (n *node) attr(local string) (string, bool) {
	for _, a := range n.attrs {
		if a.Name.Space == "" && a.Name.Local == local {
			return a.Value, true
		}
	}
	return "", false
}

// attrOr is attr with what stands for a missing one, in lower case.
func (n *node) attrOr(local, missing string) (string, bool) {
	if n == nil {
		return missing, false
	}
	v, ok := n.attr(local)
	if !ok {
		return missing, false
	}
	return strings.ToLower(v), true
}

// readXML reads a request body of at most limit bytes. An empty body gives nil. Errors: ErrTooLarge,
// or ErrInvalid for what is not well-formed, has a document type, or breaks a bound.
func readXML(r io.Reader, limit int64) (*node, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if errors.Is(err, holdfast.ErrBusy) {
		return nil, err
	}
	if err != nil {
		return nil, badRequest("read body: %v", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("xml request over %d bytes: %w", limit, holdfast.ErrTooLarge)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	n, err := parseXML(b)
	if err != nil {
		return nil, badRequest("xml: %v", err)
	}
	return n, nil
}

// parseXML builds the tree of a document. It resolves namespaces itself, for encoding/xml lets
// undeclared prefixes and empty declarations pass.
func parseXML(b []byte) (*node, error) {
	b, err := toUTF8(b)
	if err != nil {
		return nil, err
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = func(label string, in io.Reader) (io.Reader, error) {
		switch strings.ToLower(label) {
		case "utf-16", "utf-16le", "utf-16be", "us-ascii":
			return in, nil // converted above; ASCII is UTF-8
		}
		return nil, fmt.Errorf("charset %q: %w", label, holdfast.ErrInvalid)
	}
	p := xmlParser{root: &node{}}
	p.open = []*node{p.root}
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := p.token(tok); err != nil {
			return nil, err
		}
	}
	if len(p.open) != 1 {
		return nil, errors.New("unexpected end")
	}
	if els := p.root.elements(); len(els) == 1 {
		return els[0], nil
	}
	return nil, errors.New("no root element, or several")
}

// xmlParser holds the open elements and the namespace declarations in scope.
type xmlParser struct {
	root     *node
	open     []*node
	raw      []xml.Name // of the open elements, as written, for the match with their end
	scopes   []int      // len(bindings) before each open element
	bindings []xml.Attr // Name.Local is the prefix
	count    int
	pieces   int
}

func (p *xmlParser) token(tok xml.Token) error {
	top := p.open[len(p.open)-1]
	switch t := tok.(type) {
	case xml.StartElement:
		return p.start(top, t)
	case xml.EndElement:
		if len(p.raw) == 0 || p.raw[len(p.raw)-1] != t.Name {
			return errors.New("element ends that did not begin")
		}
		p.open, p.raw = p.open[:len(p.open)-1], p.raw[:len(p.raw)-1]
		p.bindings = p.bindings[:p.scopes[len(p.scopes)-1]]
		p.scopes = p.scopes[:len(p.scopes)-1]
	case xml.CharData:
		if top == p.root {
			if len(bytes.TrimSpace(t)) != 0 {
				return errors.New("text outside the root element")
			}
			return nil
		}
		if n := len(top.kids); n > 0 && top.kids[n-1].name.Local == "" {
			if p.pieces++; p.pieces > maxPieces {
				return errors.New("text in too many pieces")
			}
		}
		top.kids = append(top.kids, node{text: string(t)})
	case xml.Directive:
		return errors.New("document type") // RFC 4918, 20.6: no entities from a client
	}
	return nil
}

func (p *xmlParser) start(top *node, t xml.StartElement) error {
	p.count++
	p.pieces += len(t.Attr)
	switch {
	case p.pieces > maxPieces:
		return errors.New("too many attributes in all")
	case p.count > maxElements:
		return errors.New("too many elements")
	case len(p.open) > maxDepth:
		return errors.New("too deep")
	case len(t.Attr) > maxAttrs:
		return errors.New("too many attributes")
	}
	p.scopes = append(p.scopes, len(p.bindings))
	if err := p.declare(t.Attr); err != nil {
		return err
	}
	n := node{}
	var err error
	if n.name, err = p.resolve(t.Name, true); err != nil {
		return err
	}
	for _, a := range t.Attr {
		if isDeclaration(a) {
			continue
		}
		if a.Name, err = p.resolve(a.Name, false); err != nil {
			return err
		}
		for _, b := range n.attrs {
			if a.Name == b.Name {
				return errors.New("attribute given twice")
			}
		}
		n.attrs = append(n.attrs, a)
	}
	top.kids = append(top.kids, n)
	p.open = append(p.open, &top.kids[len(top.kids)-1])
	p.raw = append(p.raw, t.Name)
	return nil
}

func isDeclaration(a xml.Attr) bool {
	return a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns"
}

// declare takes the namespace declarations of an element into scope.
func (p *xmlParser) declare(attrs []xml.Attr) error {
	for _, a := range attrs {
		switch {
		case !isDeclaration(a):
			continue
		case a.Name.Space == "": // the default namespace; empty takes it away
			p.bindings = append(p.bindings, xml.Attr{Value: a.Value})
		case a.Value == "" || a.Name.Local == "xml" || a.Name.Local == "xmlns":
			return errors.New("bad namespace declaration") // Namespaces in XML 1.0, 2.2
		default:
			p.bindings = append(p.bindings, xml.Attr{Name: xml.Name{Local: a.Name.Local}, Value: a.Value})
		}
		if len(p.bindings) > maxBindings {
			return errors.New("too many namespaces")
		}
	}
	return nil
}

// resolve turns a prefixed name into a namespace and a local part. An attribute without prefix has no namespace.
func (p *xmlParser) resolve(n xml.Name, element bool) (xml.Name, error) {
	if n.Local == "" || strings.ContainsAny(n.Local, ":{}") || strings.ContainsAny(n.Local[:1], "-.0123456789") || strings.HasPrefix(n.Local, "\u00B7") {
		return n, errors.New("bad name") // Namespaces in XML 1.0, 4: a local part is a name by itself
	}
	if n.Space == "xml" {
		return xml.Name{Space: nsXML, Local: n.Local}, nil
	}
	if n.Space == "" && !element {
		return n, nil
	}
	for i := len(p.bindings) - 1; i >= 0; i-- {
		if p.bindings[i].Name.Local == n.Space {
			return xml.Name{Space: p.bindings[i].Value, Local: n.Local}, nil
		}
	}
	if n.Space != "" {
		return n, fmt.Errorf("prefix %q without namespace", n.Space)
	}
	return n, nil
}

// toUTF8 removes a byte order mark and converts UTF-16, which RFC 4918, 8.2 wants read.
func toUTF8(b []byte) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(b, []byte("\xef\xbb\xbf")); ok {
		return rest, nil
	}
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return b, nil
	}
	b = b[2:]
	if len(b)%2 != 0 {
		return nil, errors.New("odd number of bytes in UTF-16")
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	out := make([]byte, 0, len(b))
	for _, r := range utf16.Decode(units) {
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}
