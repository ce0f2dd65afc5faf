package proof

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/store/pgstore"
)

// start is what a process of TestStartTogether does: migrate and open.
type start struct {
	Driver, DSN, Schema string
	Unprepared          bool
}

const envStart = "KEYPURSE_TEST_START"

// TestStartProcess is a process of a test, and none where it is not asked for.
// It says "ready", waits for a line, and says how long its start took.
func TestStartProcess(t *testing.T) {
	text := os.Getenv(envStart)
	if text == "" {
		return
	}
	var s start
	require.NoError(t, json.Unmarshal([]byte(text), &s))
	db, err := sql.Open(s.Driver, s.DSN)
	require.NoError(t, err)
	defer db.Close()
	cfg := pgstore.Config{Schema: s.Schema, Timeout: patient, Unprepared: s.Unprepared}
	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	require.NoError(t, err)
	begin := time.Now()
	require.NoError(t, pgstore.Migrate(ctx, db, cfg))
	st, err := pgstore.New(db, cfg)
	require.NoError(t, err)
	fmt.Println("took", time.Since(begin).Microseconds())
	require.NoError(t, st.Close())
}

// startTogether starts processes, lets all of them go at once when every one is
// up, and gives how long each took.
func startTogether(t *testing.T, n int, s start) (took []time.Duration) {
	t.Helper()
	text, err := json.Marshal(s)
	require.NoError(t, err)
	type child struct {
		cmd  *exec.Cmd
		in   io.WriteCloser
		says *bufio.Scanner
	}
	children := make([]child, n)
	for i := range children {
		c := &children[i]
		c.cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestStartProcess$", "-test.count=1")
		c.cmd.Env = append(os.Environ(), envStart+"="+string(text))
		c.cmd.Stderr = os.Stderr
		c.in, err = c.cmd.StdinPipe()
		require.NoError(t, err)
		out, err := c.cmd.StdoutPipe()
		require.NoError(t, err)
		c.says = bufio.NewScanner(out)
		require.NoError(t, c.cmd.Start())
	}
	for i := range children {
		require.True(t, children[i].says.Scan())
		require.Equal(t, "ready", children[i].says.Text())
	}
	for i := range children {
		_, err := io.WriteString(children[i].in, "go\n")
		require.NoError(t, err)
	}
	for i := range children {
		var us int64
		var said []string
		for c := &children[i]; c.says.Scan(); {
			said = append(said, c.says.Text())
			if n, _ := fmt.Sscanf(c.says.Text(), "took %d", &us); n == 1 {
				took = append(took, time.Duration(us)*time.Microsecond)
			}
		}
		assert.NoError(t, children[i].cmd.Wait(), "%s", strings.Join(said, "\n"))
	}
	return took
}

// Eight processes that start at once on an empty schema, directly and through a
// pooler of transactions, all get through: the lock of migrations is one of a
// transaction. The server notes what is created: each thing once.
func TestStartTogether(t *testing.T) {
	t.Parallel()
	const processes = 8
	host := private(t)
	admin := open(t, "postgres", pgtest.DSN(t))
	for i, w := range slices.Concat(direct[:1], direct[2:], pooled) {
		t.Run(w.name, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			if slices.Contains(pooled, w) {
				b, err := pgtest.StartBouncer(host, 24)
				pgtest.Need(t, err)
				t.Cleanup(func() { require.NoError(t, b.Stop()) })
				dsn = b.DSN()
			}
			// A database of its own, so that nobody else's statements are noted.
			name := fmt.Sprintf("start_%d", i)
			_, err := admin.Exec("CREATE DATABASE " + name)
			require.NoError(t, err)
			t.Cleanup(func() {
				_, err := admin.Exec("DROP DATABASE " + name + " WITH (FORCE)")
				assert.NoError(t, err)
			})
			there := func(dsn string) string { return strings.Replace(dsn, "dbname=postgres", "dbname="+name, 1) }
			db := open(t, "postgres", there(pgtest.DSN(t)))
			_, err = db.Exec(`CREATE TABLE made (what text);
				CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
					INSERT INTO public.made SELECT command_tag || ' ' || object_identity FROM pg_event_trigger_ddl_commands(); END $$;
				CREATE EVENT TRIGGER note ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA', 'CREATE TABLE', 'CREATE INDEX', 'ALTER TABLE') EXECUTE FUNCTION note()`)
			require.NoError(t, err)

			const schema = "keypurse_together"
			took := startTogether(t, processes, start{w.driver, there(dsn) + w.dsn, schema, w.unprepared})
			require.Len(t, took, processes)
			t.Logf("%d processes started, the slowest in %v", processes, slices.Max(took).Round(time.Millisecond))

			var tables, indexes, twice, locks int
			require.NoError(t, db.QueryRow(`SELECT count(*) FILTER (WHERE what LIKE 'CREATE TABLE keypurse_together.%'), count(*) FILTER (WHERE what LIKE 'CREATE INDEX %'), count(*) - count(DISTINCT what) FROM made WHERE what NOT LIKE 'ALTER %'`).Scan(&tables, &indexes, &twice))
			var want int
			require.NoError(t, db.QueryRow(`SELECT count(*) FROM pg_tables WHERE schemaname = $1`, schema).Scan(&want))
			assert.Equal(t, want, tables, "each table is made once")
			assert.Greater(t, want, 10)
			assert.Positive(t, indexes)
			assert.Zero(t, twice, "nothing is made twice")
			var rows int
			require.NoError(t, db.QueryRow(`SELECT count(*) FROM keypurse_together.keypurse_schema`).Scan(&rows))
			assert.Equal(t, 1, rows)
			require.NoError(t, db.QueryRow(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&locks))
			assert.Zero(t, locks, "a lock that a connection of the pool keeps")
		})
	}
}
