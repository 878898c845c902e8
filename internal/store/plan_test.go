package store

import (
	"strings"
	"testing"
)

// TestQueryPlans looks at the plan of every statement that a run of all questions prepared: none may
// scan a table of many accounts, and only those named may sort.
func TestQueryPlans(t *testing.T) {
	s, _ := newStore(t)
	write(t, s, 1, root(), mkcol(2, 1, "a"), mkcol(3, 2, "b"))
	write(t, s, 1, put(2, "x", "1"), put(2, "y", "2"), put(3, "z", "3"))
	write(t, s, 1, put(2, "x", "4"), remove(2, "y"), mkcol(3, 1, "c"))
	tx := begin(t, s)
	for _, near := range []bool{true, false} {
		if !near {
			s.near = 0
		}
		r := tx.Reader
		for at := range 4 {
			at := []int{1, 2, 3, 1 << 40}[at]
			_, _ = r.ByUID(1, 2, "u", seqOf(at))
			_, _ = r.Resources(1, 2, "", 10, seqOf(at))
			_, _ = r.Resource(1, 2, "y", seqOf(at))
			_, _ = r.Children(1, 1, seqOf(at))
			_, _ = r.Child(1, 1, "c", seqOf(at))
			_, _ = r.LastChange(1, 2, seqOf(at))
			_, _ = r.Digest(1, 2)
			_, _, _ = r.Changed(1, 2, 1, seqOf(at), 10)
			_, _ = r.Survivors(1, 2, seqOf(at), 100, 10)
			_, _ = r.Stamps(1, seqOf(at), 10)
			_, _ = r.LossesSince(1, 2, seqOf(at), 10)
			_, _ = r.Gone(1, 2, "y")
		}
	}
	if _, err := change(tx, 1, put(2, "x", "5"), remove(3, "z"), frameDelete(3)); err != nil {
		t.Fatal(err)
	}
	if err := tx.writeHeads(); err != nil {
		t.Fatal(err)
	}
	if len(tx.c.stmts) < 30 {
		t.Errorf("only %d statements were prepared", len(tx.c.stmts))
	}
	for q := range tx.c.stmts {
		if !strings.Contains(q, "FROM") && !strings.HasPrefix(q, "UPDATE") {
			continue
		}
		var plan []string
		rows, err := tx.c.c.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+q, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		rows.Close()
		for _, p := range plan {
			small := strings.HasPrefix(p, "SCAN t") || strings.HasPrefix(p, "SCAN n") || strings.HasPrefix(p, "SCAN (subquery") // results of a subquery
			if strings.HasPrefix(p, "SCAN ") && !small && p != "SCAN CONSTANT ROW" {
				t.Errorf("%s\nscans: %s", q, strings.Join(plan, "; "))
			}
			if strings.Contains(q, "uid_key = ?3") && strings.HasPrefix(p, "SEARCH resource USING PRIMARY KEY") && !strings.Contains(p, "name=?") {
				t.Errorf("%s\nreads the whole collection for one UID: %s", q, strings.Join(plan, "; "))
			}
			sorts := strings.Contains(p, "TEMP B-TREE") && !strings.Contains(q, "SELECT DISTINCT name")
			if sorts {
				t.Errorf("%s\nsorts: %s", q, strings.Join(plan, "; "))
			}
		}
	}
}
