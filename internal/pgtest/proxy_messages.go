//go:build unix

package pgtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
)

// Message is one message of the protocol, on its way through a Proxy.
type Message struct {
	Conn       int    // the number of the connection, from 1
	FromServer bool   // else from the client
	Type       byte   // 0: what a connection begins with
	Body       []byte // after type and length
	// Text is the statement that it belongs to, for the messages of a query and
	// for what the server answers to it.
	Text string
	// Within reports whether the server last said that a transaction is open.
	Within bool
}

// wire is one connection through a Proxy. Its maps are guarded by p.mu.
type wire struct {
	p              *Proxy
	number         int
	client, server net.Conn
	statements     map[string]string // names of prepared statements
	portals        map[string]string
	text           string // of the last statement that was sent
	status         byte   // as the last ReadyForQuery says
}

// cut ends the connection for both sides.
func (w *wire) cut() {
	_ = w.client.Close() // there is nobody to tell
	_ = w.server.Close()
}

// pump passes messages on in one direction until the connection ends.
func (w *wire) pump(from *bufio.Reader, to net.Conn, fromServer bool) {
	defer w.cut()
	first := !fromServer
	for {
		kind, frame, err := readFrame(from, first)
		if err != nil {
			return
		}
		w.p.wait()
		if first && len(frame) == 8 && binary.BigEndian.Uint32(frame[4:]) != cancelRequest {
			// It asks for encryption: there is none.
			if _, err := w.client.Write([]byte{'N'}); err != nil {
				return
			}
			continue
		}
		first = false
		verdict := w.judge(kind, frame, fromServer)
		if verdict == Cut {
			return
		}
		if _, err := to.Write(frame); err != nil || verdict == CutBehind {
			return
		}
	}
}

// cancelRequest is the code of a connection that only ends another's query.
const cancelRequest = 80877102

// readFrame reads one message as its bytes are. The first of a client has no
// type.
func readFrame(r *bufio.Reader, first bool) (kind byte, frame []byte, err error) {
	head := 5
	if first {
		head = 4
	}
	frame = make([]byte, head)
	if _, err := io.ReadFull(r, frame); err != nil {
		return 0, nil, err
	}
	if !first {
		kind = frame[0]
	}
	n := binary.BigEndian.Uint32(frame[head-4:])
	if n < 4 || n > 1<<30 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	frame = append(frame, make([]byte, n-4)...)
	_, err = io.ReadFull(r, frame[head:])
	return kind, frame, err
}

func (w *wire) judge(kind byte, frame []byte, fromServer bool) Verdict {
	head := 5
	if kind == 0 {
		head = 4
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	m := &Message{Conn: w.number, FromServer: fromServer, Type: kind, Body: frame[head:], Within: w.status != 'I'}
	if fromServer {
		if kind == 'Z' && len(m.Body) == 1 {
			w.status = m.Body[0]
		}
	} else {
		w.follow(m)
	}
	m.Text = w.text
	if w.p.judge == nil {
		return Pass
	}
	return w.p.judge(m)
}

// follow notes which statement a client's message is about.
func (w *wire) follow(m *Message) {
	switch m.Type {
	case 'Q':
		w.text, _ = cstring(m.Body)
	case 'P':
		name, rest := cstring(m.Body)
		text, _ := cstring(rest)
		w.statements[name] = text
		w.text = text
	case 'B':
		portal, rest := cstring(m.Body)
		name, _ := cstring(rest)
		w.portals[portal] = w.statements[name]
		w.text = w.statements[name]
	case 'E':
		portal, _ := cstring(m.Body)
		w.text = w.portals[portal]
	}
}

func cstring(b []byte) (string, []byte) {
	text, rest, _ := bytes.Cut(b, []byte{0})
	return string(text), rest
}
