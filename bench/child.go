package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
)

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// process is a child that answers lines of JSON with lines of JSON.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr lastBytes
}

// startProcess starts a child, tells it what to do (nil: it knows) and waits until
// it is ready.
func startProcess(cmd *exec.Cmd, job any) (*process, error) {
	p := &process{cmd: cmd}
	cmd.Stderr = &p.stderr
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	p.out.Buffer(nil, maxLine)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var hello struct{ Ready bool }
	if job == nil {
		err = p.read(&hello)
	} else {
		err = p.ask(job, &hello)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// maxLine bounds an answer, in bytes.
const maxLine = 1 << 20

func (p *process) ask(question, answer any) error {
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("a child: %w: %s", err, p.stderr)
	}
	return p.read(answer)
}

func (p *process) read(answer any) error {
	if !p.out.Scan() {
		return fmt.Errorf("a child ended: %w: %s", errors.Join(p.out.Err(), io.ErrUnexpectedEOF), p.stderr)
	}
	return json.Unmarshal(p.out.Bytes(), answer)
}

// close ends the child by ending its input.
func (p *process) close() error {
	return errors.Join(p.in.Close(), p.cmd.Wait())
}

// lastBytes keeps the end of what is written to it.
type lastBytes []byte

func (l *lastBytes) Write(b []byte) (int, error) {
	*l = tail(append(*l, b...), 500)
	return len(b), nil
}
