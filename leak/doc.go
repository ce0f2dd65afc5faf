// Package leak has the HTTP handlers to which whoever finds a token hands it
// in: saccount.Service.ReportLeak, with what HTTP says.
//
//	github, err := leak.GitHub(svc, leak.Config{})
//	mux.Handle("POST /leaks/github", github)
//	plain, err := leak.Plain(svc, leak.Config{})
//	mux.Handle("POST /leaks", plain)
//
// [GitHub] is for GitHub's secret scanning partner program: GitHub finds what
// looks like a token of yours in a public place and sends it, signed. Enrol with
// the expression of apikey.GitleaksRule and the URL of this handler. Its source
// is GitHub's documentation, "Secret scanning partner program":
// https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partnership-program/secret-scanning-partner-program
//
// [Plain] is for everybody else: one token in the body of a POST. Its answer is
// the same bytes after the same time whether the token is real or not, so that
// nobody can try tokens on it.
//
// Neither needs a login, and both are bounded in what they read and do. A token
// that was handed in is in no answer, no log and no error.
package leak
