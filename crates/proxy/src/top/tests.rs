use super::*;

fn sight(forwarded: u64, opened: u64, no_route: u64, back: u64) -> Sight {
    let status = format!(
        r#"{{"version":"0.1.0","pid":77,"uptime":93.5,"generation":4,
        "devices":[{{"name":"eth0","programs":"eth0: TCX"}},{{"name":"eth1","programs":"eth1: TCX"}}],
        "notes":["nothing leads to backend 10.0.0.9"],
        "proxies":[{{"name":"web","listens":[{{"address":"192.0.2.80:80","protocol":"tcp"}}],"group":"app","routes":0}}],
        "groups":[{{"name":"app","algorithm":"maglev","nat":"dnat","all_down":false,"targets":[
          {{"address":"10.0.0.2:8080","weight":1,"share":100,"state":"up","last":"1 ms","connections":2}},
          {{"address":"10.0.0.3:8080","weight":1,"share":0,"state":"down","last":"refused","connections":5}}]}}],
        "counters":{{"forwarded":{forwarded},"opened":{opened},"answered":1,"no route":{no_route},"not ours":9,"fragment":0}},
        "events":{{"read":0,"malformed":0,"dropped":0}}}}"#
    );
    let sums = |name: &str| {
        format!(
            r#"{{"connections":7,"open":6,"sums":[{{"name":"{name}","connections":7,"open":6,
            "there":{{"packets":1,"bytes":1000}},"back":{{"packets":1,"bytes":{back}}}}}]}}"#
        )
    };
    Sight {
        status: json::read(&status).unwrap(),
        proxies: json::read(&sums("web")).unwrap(),
        targets: json::read(&sums("10.0.0.2:8080")).unwrap(),
    }
}

fn text(rows: &[Row]) -> String {
    let lines = rows
        .iter()
        .map(|row| format!("{}\n", row.bare().trim_end()));
    lines.collect()
}

#[test]
fn a_screen_with_rates() {
    let (before, now) = (sight(1000, 10, 0, 1000), sight(3000, 40, 8, 5001000));
    let shown = rows(
        &now,
        Some((&before, Duration::from_secs(2))),
        &View::default(),
    );
    insta::assert_snapshot!(text(&shown));
}

#[test]
fn a_screen_without_rates_and_in_another_order() {
    let view = View {
        order: Order::State,
        pace: Pace::Paused,
        trouble: Some("nobody answers".to_owned()),
        ..View::default()
    };
    insta::assert_snapshot!(text(&rows(&sight(1, 1, 1, 1), None, &view)));
}

#[test]
fn orders() {
    let (before, now) = (sight(0, 0, 0, 0), sight(0, 0, 0, 4000));
    let pair = Pair {
        now: &now,
        before: Some((&before, 1.0)),
    };
    for (order, first) in [
        (Order::Group, "10.0.0.2"),
        (Order::Connections, "10.0.0.3"),
        (Order::Traffic, "10.0.0.2"),
        (Order::State, "10.0.0.3"),
    ] {
        let rows = targets(pair, order).rows();
        assert!(rows[1].bare().contains(first), "{order:?}");
    }
}

#[test]
fn counters_that_begin_anew_give_no_rates() {
    let (before, now) = (sight(1000, 10, 5, 9000), sight(3, 1, 0, 10));
    let shown = text(&rows(
        &now,
        Some((&before, Duration::from_secs(1))),
        &View::default(),
    ));
    assert!(shown.contains("packets 0/s"), "{shown}");
    let shown = text(&rows(
        &now,
        Some((&before, Duration::ZERO)),
        &View::default(),
    ));
    assert!(shown.contains("packets -"), "{shown}");
}

#[test]
fn nothing_odd_panics_or_reaches_the_terminal() {
    for odd in [
        "{}",
        "[]",
        "null",
        r#"{"notes":["\u001b[2J"],"groups":3,"counters":{"x":"y","a":-1}}"#,
    ] {
        let value = json::read(odd).unwrap();
        let sight = Sight {
            status: value.clone(),
            proxies: value.clone(),
            targets: value,
        };
        let shown = text(&rows(
            &sight,
            Some((&sight, Duration::from_secs(1))),
            &View::default(),
        ));
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
}

#[test]
fn keys() {
    let mut view = View::default();
    assert_eq!(view.press(Key::Char('q'), 10), Step::End);
    assert_eq!(view.press(Key::Ctrl('c'), 10), Step::End);
    for key in [
        Key::Char('p'),
        Key::Char('s'),
        Key::PageDown,
        Key::Down,
        Key::Up,
        Key::Tab,
    ] {
        assert_eq!(view.press(key, 10), Step::On);
    }
    let expected = View {
        order: Order::Connections,
        pace: Pace::Paused,
        skipped: 10,
        ..View::default()
    };
    assert_eq!(view, expected);
    view.press(Key::Char('?'), 10);
    assert_eq!((view.page, view.skipped), (Page::Help, 0));
    view.press(Key::Escape, 10);
    assert_eq!(view.page, Page::Status);
    view.press(Key::End, 10);
    let sight = sight(0, 0, 0, 0);
    let pair = Pair {
        now: &sight,
        before: None,
    };
    assert_eq!(view.fit(pair, 6), 3);
    let all = body(pair, view.order).len();
    assert_eq!(view.skipped, all - 3);
    view.fit(pair, 100);
    assert_eq!(view.skipped, 0);
}
