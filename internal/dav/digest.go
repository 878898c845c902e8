package dav

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/internal/ledger"
)

// A client may say what the bytes it sends hash to. Two forms are in use: OC-Checksum of ownCloud and
// Nextcloud programs ("SHA1:hex"), and Content-Digest or Repr-Digest (RFC 9530, 2 and 3), which are
// one here because no content coding is accepted. What is known is verified before anything is stored;
// what is not known is left alone, as RFC 9530, 2 wants.

// algorithm is a hash that a client may name.
type algorithm struct {
	oc  string // in OC-Checksum, upper case; empty: not used there
	sf  string // in RFC 9530; empty: not used there
	new func() hash.Hash
}

var algorithms = []algorithm{
	{"SHA1", "sha", sha1.New},
	{"MD5", "md5", md5.New},
	{"SHA256", "sha-256", sha256.New},
	{"", "sha-512", sha512.New},
	{"ADLER32", "adler", func() hash.Hash { return adler32.New() }},
}

const maxDigests = 16 // values in one request

// claim is one hash that a client gave.
type claim struct {
	*algorithm
	want []byte
}

// digests checks a body against what the client says of it, while the body is read.
type digests struct {
	in     io.Reader
	claims []claim
	sums   []hash.Hash // of the claims
}

var errDigest = &fault{status: http.StatusBadRequest, detail: "the bytes that arrived do not have the checksum that was sent with them; nothing was stored"}

// parseDigests reads the checksums of a request. A value that cannot be read is refused: the client
// wants its bytes verified.
func parseDigests(h http.Header) ([]claim, error) {
	claims, err := parseChecksum(h.Get("OC-Checksum"))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"Content-Digest", "Repr-Digest"} {
		more, err := parseDigestField(strings.Join(h.Values(name), ","))
		if err != nil {
			return nil, badRequest("%s cannot be read", name)
		}
		claims = append(claims, more...)
	}
	if len(claims) > maxDigests {
		return nil, badRequest("too many checksums")
	}
	return claims, nil
}

// parseChecksum reads "TYPE:hex", or several of them with spaces between.
func parseChecksum(s string) ([]claim, error) {
	var claims []claim
	for _, f := range strings.Fields(s) {
		name, digits, ok := strings.Cut(f, ":")
		if !ok {
			return nil, badRequest("OC-Checksum is not TYPE:HEX")
		}
		for i := range algorithms {
			a := &algorithms[i]
			if a.oc == "" || !strings.EqualFold(a.oc, name) {
				continue
			}
			want, err := hex.DecodeString(digits)
			if err != nil || len(want) != a.new().Size() {
				return nil, badRequest("OC-Checksum does not have the digits of its type")
			}
			claims = append(claims, claim{a, want})
		}
	}
	return claims, nil
}

// parseDigestField reads a dictionary of byte sequences (RFC 9530, 2; RFC 8941, 3.2 and 3.3.5).
func parseDigestField(s string) ([]claim, error) {
	var claims []claim
	for member := range strings.SplitSeq(s, ",") {
		if member = strings.TrimSpace(member); member == "" {
			continue
		}
		name, value, ok := strings.Cut(member, "=")
		value, _, _ = strings.Cut(value, ";") // parameters have no meaning here
		value = strings.TrimSpace(value)
		if !ok || len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
			return nil, fmt.Errorf("digest field: %w", holdfast.ErrInvalid)
		}
		for i := range algorithms {
			a := &algorithms[i]
			if a.sf != name {
				continue
			}
			want, err := base64.StdEncoding.DecodeString(value[1 : len(value)-1])
			if err != nil || len(want) != a.new().Size() {
				return nil, fmt.Errorf("digest field: %s: %w", name, holdfast.ErrInvalid)
			}
			claims = append(claims, claim{a, want})
		}
	}
	return claims, nil
}

// checked returns a reader of in that ends in errDigest instead of io.EOF when a claim is wrong.
func checked(in io.Reader, claims []claim) io.Reader {
	if len(claims) == 0 {
		return in
	}
	d := &digests{in: in, claims: claims}
	for _, c := range claims {
		d.sums = append(d.sums, c.new())
	}
	return d
}

func (d *digests) Read(p []byte) (int, error) {
	n, err := d.in.Read(p)
	for _, s := range d.sums {
		s.Write(p[:n])
	}
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		for i, c := range d.claims {
			if got := d.sums[i].Sum(nil); string(got) != string(c.want) {
				return n, errDigest
			}
		}
	}
	return n, err
}

// checksumsName is the property with the checksums that a client gave and that were right: the ETag's
// digits of the body they belong to, then "TYPE:hex" each. Of another body they say nothing, so a
// body that is replaced in any way leaves none behind that would be believed.
var checksumsName = xml.Name{Space: nsOwn, Local: "checksums"}

// checksumsProp makes that property; ok is false if there is nothing to remember.
func checksumsProp(body holdfast.Hash, claims []claim) (p holdfast.Property, ok bool) {
	v := strings.Trim(holdfast.ETag(body), `"`)
	for _, c := range claims {
		if c.oc == "" || c.oc == "SHA256" { // the hash of the body itself is known anyway
			continue
		}
		text := " " + c.oc + ":" + hex.EncodeToString(c.want)
		if !strings.Contains(v, text) {
			v, ok = v+text, true
		}
	}
	return holdfast.Property{Name: clark(checksumsName), Value: v}, ok
}

// checksums returns what is known of a resource's body without reading it, as OC-Checksum has it:
// what a client gave, then the hash that the ledger has.
func checksums(r *ledger.Resource) string {
	own := "SHA256:" + r.Body.String()
	if v, ok := property(r.Props, checksumsName); ok {
		if given, mine := strings.CutPrefix(v, strings.Trim(r.ETag(), `"`)+" "); mine {
			return given + " " + own
		}
	}
	return own
}

// digestHeaders adds checksums to the answer to GET and HEAD: those ownCloud's programs look for, and
// Repr-Digest if it is wanted (RFC 9530, 3 and 4). It is that of the whole representation, so it
// is right for a range too.
func digestHeaders(q *request, r *ledger.Resource) {
	first, _, _ := strings.Cut(checksums(r), " ")
	q.w.Header().Set("OC-Checksum", first)
	if wantsSHA256(strings.Join(q.Header.Values("Want-Repr-Digest"), ",")) {
		q.w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(r.Body[:])+":")
	}
}

// wantsSHA256 reads preferences as "sha-512=3, sha-256=10" (RFC 9530, 4): 0 is "not acceptable". Only
// SHA-256 is known without reading the body.
func wantsSHA256(s string) bool {
	for member := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		if name == "sha-256" {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			return err == nil && n > 0 && n <= 10
		}
	}
	return false
}

var ocChecksums = xml.Name{Space: nsOwnCloud, Local: "checksums"}

// knownChecksums reports whether s says nothing of r's body but what checksums says.
func knownChecksums(r *ledger.Resource, s string) bool {
	known := strings.Fields(strings.ToLower(checksums(r)))
	for _, f := range strings.Fields(strings.ToLower(s)) {
		if !slices.Contains(known, f) {
			return false
		}
	}
	return true
}

// writeChecksums is oc:checksums, which rclone and the programs of ownCloud and Nextcloud compare.
func writeChecksums(c *propContext, dst []byte) ([]byte, bool, error) {
	if !isFile(c.t) {
		return dst, false, nil
	}
	dst = append(dst, `<checksum xmlns="`+nsOwnCloud+`">`...)
	dst = append(append(dst, checksums(c.t.res)...), "</checksum>"...)
	return dst, true, nil
}
