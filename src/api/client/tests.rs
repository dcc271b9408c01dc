use super::{
    super::serve::{ok, recorded, reply, serve},
    *,
};

#[test]
fn recorded_error_responses_give_a_message_with_advice() {
    let rights = "this user needs the rights in boards/kubernetes/rbac.yaml";
    let status = "is that the URL of a Kubernetes API server?";
    for (name, want) in [
        (
            "400-body",
            "400 Bad Request: the object provided is unrecognized (must be of type Service): couldn't get version/kind",
        ),
        ("400-continue", "400 Bad Request: invalid continue token: continue key is not valid"),
        (
            "400-continue-with-rv",
            "400 Bad Request: invalid continue token: continue key is not valid",
        ),
        ("400-fieldsel", "400 Bad Request: field label not supported: spec.foo"),
        (
            "400-labelsel",
            "400 Bad Request: unable to parse requirement: found '', expected: ',' or ')'",
        ),
        (
            "400-rv",
            "400 Bad Request: invalid resource version: resourceVersion: Invalid value: \"abc\"",
        ),
        (
            "401-badtoken",
            "401 Unauthorized; the token or the client certificate is missing, wrong or expired",
        ),
        (
            "403-agent-create",
            &format!(
                "403 Forbidden: services is forbidden: User \"agent\" cannot create resource \"services\" in API group \"\" in the namespace \"shop\"; {rights}"
            ),
        ),
        (
            "403-anonymous",
            &format!(
                "403 Forbidden: nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the cluster scope; {rights}"
            ),
        ),
        (
            "403-nobody",
            &format!(
                "403 Forbidden: nodes is forbidden: User \"nobody\" cannot list resource \"nodes\" in API group \"\" at the cluster scope; {rights}"
            ),
        ),
        ("404-anp", &format!("404 Not Found: 404 page not found; {status}")),
        ("404-object", "404 Not Found: nodes \"absent\" not found; "),
        ("404-path", &format!("404 Not Found: 404 page not found; {status}")),
        ("404-resource", "404 Not Found: the server could not find the requested resource; "),
        (
            "405-method",
            "405 Method Not Allowed: the server does not allow this method on the requested resource",
        ),
        ("406-accept", "406 Not Acceptable: 406: Not Acceptable"),
        ("409-exists", "409 Conflict: namespaces \"shop\" already exists"),
        (
            "410-continue",
            "410 Gone: The provided continue parameter is too old to display a consistent list result.",
        ),
        ("410-exact", "410 Gone: The resourceVersion for the provided list is too old."),
        ("410-list-limit-oldrv", "410 Gone: The resourceVersion for the provided list is too old."),
        (
            "415-type",
            "415 Unsupported Media Type: the body of the request was in an unknown format",
        ),
        (
            "422-initial-events-nomatch",
            "422 Unprocessable Entity: ListOptions.meta.k8s.io \"\" is invalid",
        ),
        ("422-invalid", "422 Unprocessable Entity: Service \"BAD_NAME\" is invalid"),
        (
            "504-future-rv-list",
            "504 Gateway Timeout: Timeout: Too large resource version: 99999999, current: 412; the API server, or etcd behind it, is not healthy",
        ),
        (
            "etcd-down-create",
            "504 Gateway Timeout: Timeout: request did not complete within requested timeout - context deadline exceeded; the API",
        ),
        (
            "etcd-hung-livez",
            "500 Internal Server Error: [+]ping ok; the API server, or etcd behind it, is not healthy",
        ),
    ] {
        let file = format!("err/{name}.http");
        let server = serve(move |_, _| recorded(&file));
        let got = server.client().get("/x").unwrap_err();
        assert!(got.text.starts_with(want), "{name}: {}", got.text);
        if let Ok(code) = name[..3].parse() {
            assert_eq!(got.why, Why::Status(code), "{name}");
        }
    }
}

#[test]
fn error_bodies_of_any_kind_give_a_one_line_message() {
    let long = format!("{}\nsecond", "y".repeat(1_000_000));
    for (status, headers, body, want) in [
        ("403 Forbidden", "", "", "403 Forbidden; this user needs".to_owned()),
        ("502 Bad Gateway", "", "<html>\r\n<body>nginx", "502 Bad Gateway: <html>; is the API server up behind that proxy?".to_owned()),
        ("500 Internal Server Error", "", &long, format!("500 Internal Server Error: {}…; ", "y".repeat(200))),
        ("400 Bad Request", "", "Client sent an HTTP request to an HTTPS server.\n", "400 Bad Request: Client sent an HTTP request to an HTTPS server.; use https:// in its URL".to_owned()),
        ("302 Found", "Location: https://login.example/\r\n", "", "302 Found; the server redirects to https://login.example/, and redirects are not followed; give the API server's own URL".to_owned()),
        ("404 Not Found", "", "{\"message\":5}", "404 Not Found: {\"message\":5}; ".to_owned()),
        ("418 I'm a teapot", "", "a\u{7}b", "418 I'm a teapot: ab".to_owned()),
        ("299 Odd", "", "", "299 (unknown)".to_owned()),
    ] {
        let bytes = reply(status, headers, body);
        let server = serve(move |_, _| bytes.clone());
        let got = server.client().get("/x").unwrap_err().text;
        assert!(got.starts_with(&want), "{got}");
        assert_eq!(server.requests().len(), 1, "{status}: not followed, not repeated");
    }
}

#[test]
fn status_429_is_retried_three_times_after_retry_after() {
    let server = serve(|_, nth| match nth {
        1..=2 => reply("429 Too Many Requests", "Retry-After: 0\r\n", "later"),
        _ => ok("{}"),
    });
    assert!(server.client().get("/x").is_ok());
    let server = serve(|_, _| reply("429 Too Many Requests", "Retry-After: 0\r\n", "later"));
    let got = server.client().get("/x").unwrap_err();
    assert_eq!(
        got.text,
        "429 Too Many Requests: later; the API server is overloaded; try again later"
    );
    assert_eq!(server.requests().len(), 4);
    let server = serve(|_, nth| if nth == 1 { recorded("err/429-apf.http") } else { ok("{}") });
    let began = std::time::Instant::now();
    assert!(server.client().get("/x").is_ok());
    assert!(began.elapsed() >= Duration::from_secs(1), "its Retry-After is 1");
}

#[test]
fn a_request_has_the_expected_headers() {
    let server = serve(|_, _| ok("{}"));
    let token = Token::Fixed("secret".to_owned());
    Client::new(Access { token, ..server.access() }).unwrap().get("/a?b=c").unwrap();
    let head = server.requests()[0].to_lowercase();
    let host = server.url.strip_prefix("http://").unwrap();
    for line in [
        "get /a?b=c http/1.1\r\n",
        &format!("\r\nhost: {host}\r\n"),
        concat!("\r\nuser-agent: kinglet/", env!("CARGO_PKG_VERSION"), "\r\n"),
        "\r\naccept: application/json\r\n",
        "\r\naccept-encoding: gzip\r\n",
        "\r\nauthorization: bearer secret\r\n",
    ] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
}

#[test]
fn connection_refused_empty_reply_and_timeout_are_distinct_errors() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = serve(|_, _| Vec::new());
    let gone = Client::new(Access { server: format!("http://{free}"), ..server.access() }).unwrap();
    let got = gone.get("/x").unwrap_err();
    assert_eq!(
        got.text,
        "connection refused; is the API server running there, and is the port right?"
    );
    assert_eq!(got.why, Why::Other);
    let got = server.client().get("/x").unwrap_err();
    assert!(got.text.starts_with("an empty reply: the connection was cut"), "{}", got.text);
    assert_eq!(got.why, Why::Empty);
    let slow = serve(|_, _| {
        thread::sleep(Duration::from_millis(500));
        Vec::new()
    });
    let got = Client::with(
        slow.access(),
        Patience { answer: Duration::from_millis(50), ..Patience::default() },
    )
    .unwrap();
    assert_eq!(got.get("/x").unwrap_err().why, Why::Silent);
    let ssh = serve(|_, _| b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    let got = ssh.client().get("/x").unwrap_err().text;
    assert!(got.starts_with("the answer is not HTTP"), "{got}");
    let odd = Client::new(Access {
        server: "http://no.such.host.invalid:1".to_owned(),
        ..server.access()
    });
    let got = odd.unwrap().get("/x").unwrap_err().text;
    assert!(got.contains("does DNS work here?"), "{got}");
}

#[test]
fn an_idle_connection_closed_by_the_server_is_replaced() {
    let server = serve(|_, _| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec());
    let client = server.client();
    for _ in 0..20 {
        let mut body = String::new();
        client.get("/x").unwrap().read_to_string(&mut body).unwrap();
        assert_eq!(body, "{}");
    }
}
