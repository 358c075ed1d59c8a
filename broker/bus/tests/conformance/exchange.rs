//! Messages that arrive, and answers that come back.

use bus::{BusError, Delivery, Headers, Link, Message};

use crate::bed::{Bed, LONG, SHORT, pattern, subject, text};

pub async fn a_request_is_answered_with_headers(bed: &Bed) {
    let (asking, serving) = (bed.connect().await, bed.connect().await);
    let mut server = serving.serve(&pattern("task.lab1.*"), 4).await.unwrap();
    let answering = tokio::spawn(async move {
        let request = server.next().await.unwrap();
        let seen = request.message.clone();
        let headers = Headers::new().with("b", "2").unwrap().with("a", "1").unwrap();
        request.reply(headers, text("pong")).await.unwrap();
        seen
    });
    let headers = Headers::new().with("x", "y z").unwrap().with("x", "").unwrap();
    let answer = asking.request(&subject("1"), headers.clone(), text("ping"), LONG).await.unwrap();
    assert_eq!((answer.headers.get("a"), answer.headers.get("b")), (Some("1"), Some("2")));
    assert_eq!((answer.subject, answer.payload), (subject("1"), text("pong")));
    let seen = answering.await.unwrap();
    assert_eq!(seen, Message { subject: subject("1"), headers, payload: text("ping") });
    assert_eq!(asking.status().pending, 0);
}

pub async fn a_request_without_a_server_is_told_at_once(bed: &Bed) {
    let bus = bed.connect().await;
    let answer = bus.request(&subject("1"), Headers::new(), text(""), LONG).await;
    assert_eq!(answer, Err(BusError::NoResponders));
    assert_eq!(bus.status().pending, 0);
}

pub async fn one_publisher_keeps_its_order(bed: &Bed) {
    let (sending, hearing) = (bed.connect().await, bed.connect().await);
    let mut heard = hearing.subscribe(&pattern("task.>"), 4000).await.unwrap();
    for n in 0..2000 {
        let subject = subject(&(n % 7).to_string());
        sending.publish(&subject, Headers::new(), text(&n.to_string())).await.unwrap();
    }
    for n in 0..2000 {
        let message = heard.next().await.unwrap().message().unwrap();
        assert_eq!(message.payload, text(&n.to_string()));
    }
}

pub async fn wildcards_select_whole_tokens(bed: &Bed) {
    let bus = bed.connect().await;
    let mut one = bus.subscribe(&pattern("event.*.vm.*.powered_on"), 64).await.unwrap();
    let mut all = bus.subscribe(&pattern("event.>"), 64).await.unwrap();
    let mut exact = bus.subscribe(&subject("1").into(), 64).await.unwrap();
    let event = |kind, what| bus::Subject::event("lab1", kind, "a.b *", what).unwrap();
    let sent =
        [event("vm", "powered_on"), event("vm", "powered_off"), event("host", "powered_on"), subject("1")];
    for subject in &sent {
        bus.publish(subject, Headers::new(), text("")).await.unwrap();
    }
    bus.publish(&event("vm", "powered_on"), Headers::new(), text("end")).await.unwrap();
    let mut subjects = Vec::new();
    for subscription in [&mut one, &mut all] {
        loop {
            let message = subscription.next().await.unwrap().message().unwrap();
            if message.payload == text("end") {
                break;
            }
            subjects.push(message.subject);
        }
    }
    let [on, off, host, task] = sent;
    assert_eq!(subjects, [on.clone(), on, off, host]);
    assert_eq!(exact.next().await.unwrap().message().unwrap().subject, task);
}

pub async fn servers_of_one_subject_share_requests(bed: &Bed) {
    let bus = bed.connect().await;
    let mut answering = Vec::new();
    for _ in 0..2 {
        let mut server = bus.serve(&pattern("task.lab1.*"), 64).await.unwrap();
        answering.push(tokio::spawn(async move {
            let mut taken = 0;
            while let Some(request) = server.next().await {
                taken += 1;
                request.reply(Headers::new(), text("")).await.unwrap();
            }
            taken
        }));
    }
    for n in 0..40 {
        bus.request(&subject(&n.to_string()), Headers::new(), text(""), LONG).await.unwrap();
    }
    bus.close().await;
    let mut total = 0;
    for task in answering {
        total += task.await.unwrap();
    }
    assert_eq!(total, 40, "each request reaches exactly one server");
}

pub async fn a_message_without_a_reply_never_reaches_a_server(bed: &Bed) {
    let bus = bed.connect().await;
    let mut server = bus.serve(&pattern("task.lab1.*"), 4).await.unwrap();
    bus.publish(&subject("1"), Headers::new(), text("published")).await.unwrap();
    let asking = bus.clone();
    let asked =
        tokio::spawn(async move { asking.request(&subject("1"), Headers::new(), text("asked"), LONG).await });
    let request = server.next().await.unwrap();
    assert_eq!(request.message.payload, text("asked"));
    request.reply(Headers::new(), text("")).await.unwrap();
    asked.await.unwrap().unwrap();
}

pub async fn draining_answers_what_was_taken(bed: &Bed) {
    let (asking, serving) = (bed.connect().await, bed.connect().await);
    let mut server = serving.serve(&pattern("task.lab1.*"), 4).await.unwrap();
    let asked = {
        let asking = asking.clone();
        tokio::spawn(async move { asking.request(&subject("1"), Headers::new(), text(""), LONG).await })
    };
    let request = server.next().await.unwrap();
    let draining = {
        let serving = serving.clone();
        tokio::spawn(async move { serving.drain(LONG).await })
    };
    assert!(server.next().await.is_none(), "a draining bus takes no more requests");
    request.reply(Headers::new(), text("late")).await.unwrap();
    assert_eq!(draining.await.unwrap(), Ok(()));
    assert_eq!(asked.await.unwrap().unwrap().payload, text("late"));
    assert_eq!(serving.status().link, Link::Closed);
    let answer = asking.request(&subject("1"), Headers::new(), text(""), LONG).await;
    assert_eq!(answer, Err(BusError::NoResponders));
}

pub async fn a_closed_bus_says_so(bed: &Bed) {
    let (bus, other) = (bed.connect().await, bed.connect().await);
    let mut subscription = bus.subscribe(&pattern("task.>"), 4).await.unwrap();
    let mut server = bus.serve(&pattern("agent.>"), 4).await.unwrap();
    let _deaf = other.serve(&pattern("task.lab1.*"), 4).await.unwrap();
    let asking = bus.clone();
    let asked =
        tokio::spawn(async move { asking.request(&subject("1"), Headers::new(), text(""), LONG).await });
    assert!(matches!(subscription.next().await, Some(Delivery::Message(_))));
    bus.close().await;
    bus.close().await;
    assert_eq!(asked.await.unwrap(), Err(BusError::Closed));
    assert_eq!(subscription.next().await, None);
    assert!(server.next().await.is_none());
    assert_eq!(bus.publish(&subject("1"), Headers::new(), text("")).await, Err(BusError::Closed));
    assert_eq!(bus.flush().await, Err(BusError::Closed));
    assert!(matches!(bus.subscribe(&pattern("task.>"), 4).await, Err(BusError::Closed)));
    assert!(matches!(bus.serve(&pattern("task.>"), 4).await, Err(BusError::Closed)));
    assert_eq!((bus.status().link, bus.status().pending), (Link::Closed, 0));
}

pub async fn a_dropped_server_is_gone(bed: &Bed) {
    let bus = bed.connect().await;
    let server = bus.serve(&pattern("task.lab1.*"), 4).await.unwrap();
    drop(server);
    loop {
        match bus.request(&subject("1"), Headers::new(), text(""), SHORT).await {
            Err(BusError::NoResponders) => break,
            // The server's end has not reached the bus yet.
            Err(BusError::Timeout) => {}
            other => panic!("{other:?}"),
        }
    }
}
