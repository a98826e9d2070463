"""What becomes of each request, told to people: traces, exemplars, the access log.

A frontend notes the moments of the requests that somebody wants to see, and hands them on in
packets; a thread of the supervisor makes spans and log lines of them, away from the hot path.
"""
