package frame

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"holdfast"
)

// Loss is what an operator accepted as lost: the content of an OpAcceptLoss, the only operation of the
// change that raises its account's epoch. docs/formats/change.md has its form.
type Loss struct {
	// Common is the last seq up to which, as far as anybody knows, the lost history was this one. What
	// came after it in this history, a device that knows the lost one has not seen. At most the seq before
	// the change.
	Common    holdfast.Seq
	Witnesses []LossWitness // what proved the loss; at most MaxLossWitnesses
}

// LossWitness is what one witness knew and no copy had.
type LossWitness struct {
	Epoch  holdfast.Epoch
	Seq    holdfast.Seq
	Prefix []byte // of the chain hash at Seq, 1 to 32 bytes
	Source string // for people, one line
}

// MaxLossWitnesses is how many witnesses one accepted loss names.
const MaxLossWitnesses = 64

const (
	lossCommon  = "common"
	lossWitness = "witness"
	maxSource   = 200 // bytes of a witness's name
)

// LossOp returns the operation that records l.
func LossOp(l *Loss) Op {
	props := []holdfast.Property{{Name: lossCommon, Value: l.Common.String()}}
	for _, w := range l.Witnesses[:min(len(l.Witnesses), MaxLossWitnesses)] {
		source := strings.ToValidUTF8(strings.ReplaceAll(w.Source, "\n", " "), "?")
		props = append(props, holdfast.Property{
			Name:  lossWitness,
			Value: fmt.Sprintf("%d %s %x %s", w.Epoch, w.Seq, w.Prefix, source[:min(len(source), maxSource)]),
		})
	}
	return Op{Type: OpAcceptLoss, Collection: holdfast.Root, Props: props}
}

// Loss reads what an OpAcceptLoss records. ErrInvalid: it is none, or not in its form.
func (o *Op) Loss() (*Loss, error) {
	if o.Type != OpAcceptLoss || o.Erased || o.Name != "" || len(o.Props) == 0 || len(o.Props) > MaxLossWitnesses+1 || o.Props[0].Name != lossCommon {
		return nil, fmt.Errorf("not an accepted loss: %w", holdfast.ErrInvalid)
	}
	common, err := parseSeq(o.Props[0].Value)
	if err != nil {
		return nil, err
	}
	l := &Loss{Common: common}
	for _, p := range o.Props[1:] {
		w, err := parseLossWitness(p)
		if err != nil {
			return nil, err
		}
		l.Witnesses = append(l.Witnesses, w)
	}
	return l, nil
}

func parseLossWitness(p holdfast.Property) (LossWitness, error) {
	parts := strings.SplitN(p.Value, " ", 4)
	if p.Name != lossWitness || len(parts) != 4 {
		return LossWitness{}, fmt.Errorf("witness %q of a loss: %w", p.Name, holdfast.ErrInvalid)
	}
	epoch, err := strconv.ParseUint(parts[0], 10, 32)
	if err != nil {
		return LossWitness{}, fmt.Errorf("epoch of a lost change: %w: %w", err, holdfast.ErrInvalid)
	}
	seq, err := parseSeq(parts[1])
	if err != nil {
		return LossWitness{}, err
	}
	prefix, err := hex.DecodeString(parts[2])
	if err != nil || len(prefix) == 0 || len(prefix) > len(holdfast.Hash{}) {
		return LossWitness{}, fmt.Errorf("hash of a lost change: %w", holdfast.ErrInvalid)
	}
	return LossWitness{Epoch: holdfast.Epoch(epoch), Seq: seq, Prefix: prefix, Source: parts[3]}, nil
}

func parseSeq(s string) (holdfast.Seq, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("seq %q in a loss: %w", s, holdfast.ErrInvalid)
	}
	return holdfast.Seq(n), nil
}

// RaisesEpoch reports whether this change begins a new epoch: an operator accepted a loss.
func (c *Change) RaisesEpoch() bool { return len(c.Ops) == 1 && c.Ops[0].Type == OpAcceptLoss }
