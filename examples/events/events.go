// Events that nobody misses, in Go without any library: README.md beside this says what it does. Go 1.18 or newer.
//
//	go run events.go billing ledger.txt
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Imserver says something every 10 s.
const silence = 30 * time.Second

var (
	api = setting("IMSERVER_API", "http://127.0.0.1:7001")
	key = setting("IMSERVER_API_KEY", "")
)

type event struct {
	ID, Client, Reason string
	Missed             *int
}

func main() {
	log.SetFlags(0)
	rand.Seed(time.Now().UnixNano())
	group, ledger, last := os.Args[1], open(os.Args[2]), ""
	for pause := time.Second / 2; ; pause = min(2*pause, silence) {
		err := read(group, ledger, &last, &pause)
		log.Println("once more:", err)
		time.Sleep(pause/2 + time.Duration(rand.Int63n(int64(pause/2))))
	}
}

// Goes on behind what was handled last, until something fails.
func read(group string, ledger *ledger, last *string, pause *time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := time.AfterFunc(silence, cancel)
	defer timer.Stop()
	stream, err := ask(ctx, "/v1/events?group="+url.QueryEscape(group), nil, *last)
	if err != nil {
		return err
	}
	defer stream.Close()
	fields, lines := map[string]string{}, bufio.NewScanner(stream)
	for lines.Scan() {
		timer.Reset(silence)
		if name, value, found := strings.Cut(lines.Text(), ": "); found {
			fields[name] = value
		}
		if lines.Text() != "" || fields["data"] == "" {
			continue
		}
		if err := handle(group, ledger, fields); err != nil {
			return err
		}
		if id := fields["id"]; id != "" {
			*last = id
		}
		fields, *pause = map[string]string{}, time.Second/2
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the stream has ended")
}

// Handles an event, and acknowledges it then.
func handle(group string, ledger *ledger, fields map[string]string) error {
	var data event
	if err := json.Unmarshal([]byte(fields["data"]), &data); err != nil {
		return err
	}
	done := map[string]any{"group": group}
	var err error
	if fields["event"] == "missed" {
		err = ledger.missed(data.Missed)
		if data.Missed != nil {
			done["missed"] = *data.Missed
		}
	} else {
		err = ledger.handle(fields["event"], data)
		done["ids"] = []string{data.ID}
	}
	if err != nil {
		return err
	}
	return call("/v1/events/acknowledgements", done, nil)
}

// A ledger stands for your database.
type ledger struct {
	file  *os.File
	known map[string]bool
}

func open(path string) *ledger {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	known := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		id, _, _ := strings.Cut(lines.Text(), " ")
		known[id] = true
	}
	return &ledger{file, known}
}

// What comes a second time has the same id, and changes nothing.
func (l *ledger) handle(kind string, event event) error {
	if l.known[event.ID] {
		return nil
	}
	_, err := fmt.Fprintln(l.file, event.ID, kind, word(event.Client), word(event.Reason))
	l.known[event.ID] = err == nil
	return err
}

// Some were never told: what is true now replaces what they would have said.
func (l *ledger) missed(count *int) error {
	clients, err := whoIsOnline()
	if err != nil {
		return err
	}
	text := "null"
	if count != nil {
		text = fmt.Sprint(*count)
	}
	_, err = fmt.Fprintln(l.file, "-", "missed", text, "online", len(clients))
	return err
}

func whoIsOnline() ([]string, error) {
	var clients []string
	for query := ""; ; {
		var page struct {
			Clients []string
			Next    *string
		}
		if err := call("/v1/clients?limit=1000"+query, nil, &page); err != nil {
			return nil, err
		}
		clients = append(clients, page.Clients...)
		if page.Next == nil {
			return clients, nil
		}
		query = "&after=" + url.QueryEscape(*page.Next)
	}
}

// A whole answer.
func call(path string, body, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), silence)
	defer cancel()
	answer, err := ask(ctx, path, body, "")
	if err != nil {
		return err
	}
	defer answer.Close()
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer).Decode(into)
}

func ask(ctx context.Context, path string, body any, last string) (io.ReadCloser, error) {
	method, text := http.MethodGet, []byte(nil)
	if body != nil {
		method = http.MethodPost
		text, _ = json.Marshal(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, api+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	if last != "" {
		request.Header.Set("Last-Event-ID", last)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 {
		defer answer.Body.Close()
		detail, _ := io.ReadAll(answer.Body)
		return nil, fmt.Errorf("%s: %s", answer.Status, detail)
	}
	return answer.Body, nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func word(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func min(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}
