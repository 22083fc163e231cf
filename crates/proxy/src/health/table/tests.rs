//! The table without a thread and without sockets.

use super::*;
use bpfsmith_config::desired::Check;

const SECOND: Duration = Duration::from_secs(1);

fn health(interval: Duration) -> Health {
    Health {
        check: Check::Tcp,
        interval,
        timeout: SECOND,
        jitter: 0.0,
        up: 2,
        down: 2,
        slow_start: 9 * SECOND,
    }
}

fn target(port: u16) -> Target {
    Target {
        group: "g".to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
    }
}

fn table() -> Table {
    Table::new(Chance::from(7))
}

const BAD: Result<Duration, Failure> = Err(Failure::Refused);
const GOOD: Result<Duration, Failure> = Ok(Duration::ZERO);

/// Lets the only target be due, and answers.
fn answer(table: &mut Table, at: Instant, answer: Result<Duration, Failure>) {
    let number = table.take_due(at).expect("it is due");
    table.record(number, at, answer, at);
}

fn one(table: &Table, now: Instant) -> View {
    let mut views = table.views(now).into_values();
    views.next().expect("there is one")
}

#[test]
fn first_checks_are_spread_over_a_second() {
    let (mut table, now) = (table(), Instant::now());
    let all = (1..=1000).map(|port| (target(port), health(10 * SECOND)));
    table.set(all.collect(), now);
    let mut by = |part: u32| {
        let mut count = 0;
        while table.take_due(now + SECOND * part / 4).is_some() {
            count += 1;
        }
        count
    };
    let quarters = [by(1), by(2), by(3), by(4)];
    assert_eq!(quarters.iter().sum::<i32>(), 1000);
    assert!(quarters.iter().all(|&count| count > 150), "{quarters:?}");
}

#[test]
fn checks_follow_an_interval_after_the_last_one_began() {
    let (mut table, now) = (table(), Instant::now());
    table.set([(target(1), health(10 * SECOND))].into(), now);
    let number = table.take_due(now + SECOND).unwrap();
    assert_eq!(
        table.take_due(now + 99 * SECOND),
        None,
        "it is asked already"
    );
    table.record(number, now + SECOND, GOOD, now + 3 * SECOND);
    assert_eq!(table.next(), Some(now + 11 * SECOND));
    let number = table.take_due(now + 11 * SECOND).unwrap();
    table.record(number, now + 11 * SECOND, GOOD, now + 30 * SECOND);
    assert_eq!(
        table.next(),
        Some(now + 30 * SECOND),
        "it took longer than the interval"
    );
}

#[test]
fn an_interval_of_nothing_is_not_a_loop() {
    let (mut table, now) = (table(), Instant::now());
    table.set([(target(1), health(Duration::ZERO))].into(), now);
    answer(&mut table, now, GOOD);
    assert_eq!(table.next(), Some(now + LEAST));
}

#[test]
fn no_interval_is_too_long() {
    let (mut table, now) = (table(), Instant::now());
    let mut long = health(Duration::MAX);
    long.jitter = 0.5;
    long.slow_start = Duration::MAX;
    long.down = 1;
    long.up = 1;
    table.set([(target(1), long.clone())].into(), now);
    answer(&mut table, now + SECOND, BAD);
    let later = table.next().unwrap();
    answer(&mut table, later, GOOD);
    assert_eq!(one(&table, later).share, 10);
    long.jitter = f64::NAN;
    table.set([(target(1), long)].into(), later);
}

#[test]
fn what_ran_out_here_does_not_count() {
    let (mut table, now) = (table(), Instant::now());
    table.set([(target(1), health(SECOND))].into(), now);
    let shortage = Failure::here("socket", bpfsmith_uapi::Errno::EMFILE.0);
    for second in 1..9 {
        answer(&mut table, now + SECOND * second, Err(shortage));
    }
    let view = one(&table, now);
    assert_eq!(
        (view.state, view.checks, view.failures),
        (State::Unknown, 0, 0)
    );
    assert_eq!(view.last, Some(Err(shortage)));
    assert_eq!(table.take_news(), News::None);
}

#[test]
fn only_changes_are_told() {
    let (mut table, now) = (table(), Instant::now());
    let at = |second: u32| now + SECOND * second;
    table.set([(target(1), health(SECOND))].into(), now);
    let told = |table: &mut Table, second, what| {
        answer(table, at(second), what);
        table.take_news() == News::Some
    };
    assert!(told(&mut table, 1, GOOD), "unknown to up");
    assert!(!told(&mut table, 2, GOOD));
    assert!(!told(&mut table, 3, BAD));
    assert!(told(&mut table, 4, BAD), "up to down");
    assert!(!told(&mut table, 5, BAD));
    assert!(!told(&mut table, 6, GOOD));
    assert!(told(&mut table, 7, GOOD), "down to up");
    assert_eq!(one(&table, at(7)).share, 10);
    // The interval and the first step of slow start both lie a second later.
    let number = table.take_due(at(8)).unwrap();
    assert_eq!(table.next(), Some(at(8)));
    table.pass_steps(at(8));
    assert_eq!(
        (table.take_news(), one(&table, at(8)).share),
        (News::Some, 20)
    );
    table.record(number, at(8), GOOD, at(8));
    assert_eq!(table.take_news(), News::None);
    table.force(&target(1), Some(Forced::Up), at(8)).unwrap();
    assert_eq!(
        (table.take_news(), one(&table, at(8)).share),
        (News::Some, 100)
    );
    table.pass_steps(at(30));
    assert_eq!(
        table.take_news(),
        News::None,
        "nothing rises that is forced"
    );
}

#[test]
fn another_interval_keeps_the_standing_and_another_question_does_not() {
    let (mut table, now) = (table(), Instant::now());
    table.set([(target(1), health(3600 * SECOND))].into(), now);
    answer(&mut table, now + SECOND, BAD);
    table.check_now(&target(1), now + SECOND).unwrap();
    answer(&mut table, now + SECOND, BAD);
    assert_eq!(
        (one(&table, now).state, table.take_news()),
        (State::Down, News::Some)
    );

    table.set([(target(1), health(5 * SECOND))].into(), now + SECOND);
    assert_eq!(
        table.next(),
        Some(now + 6 * SECOND),
        "it does not wait for the hour"
    );
    let view = one(&table, now + SECOND);
    assert_eq!(
        (view.state, view.checks, view.failures),
        (State::Down, 2, 2)
    );
    assert_eq!(table.take_news(), News::None);

    table
        .force(&target(1), Some(Forced::Down), now + SECOND)
        .unwrap();
    let number = table.take_due(now + 6 * SECOND).unwrap();
    let mut other = health(5 * SECOND);
    other.check = Check::Http {
        path: "/".to_owned(),
        host: None,
        expect: vec![200],
    };
    table.take_news();
    table.set([(target(1), other)].into(), now + 6 * SECOND);
    // What was asked before is nobody's answer.
    table.record(number, now + 6 * SECOND, BAD, now + 7 * SECOND);
    let view = one(&table, now + 7 * SECOND);
    assert_eq!(
        (view.state, view.checks, view.share),
        (State::Unknown, 0, 0)
    );
    assert_eq!(
        (view.forced, table.take_news()),
        (Some(Forced::Down), News::Some)
    );
    assert!(!table.has(number));
}

#[test]
fn a_target_that_is_gone_leaves_nothing() {
    let (mut table, now) = (table(), Instant::now());
    table.set(
        [
            (target(1), health(SECOND)),
            (target(2), health(SECOND)),
        ]
        .into(),
        now,
    );
    table.set([(target(2), health(SECOND))].into(), now);
    assert_eq!(
        table.views(now).into_keys().collect::<Vec<_>>(),
        [target(2)]
    );
    let error = table.check_now(&target(1), now).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("target 127.0.0.1:1 of group g: not among"),
        "{error}"
    );
    assert!(table.force(&target(1), None, now).is_err());
    table.set(BTreeMap::new(), now);
    assert_eq!((table.next(), table.entries.len()), (None, 0));
}

#[test]
fn a_check_that_is_wanted_while_one_is_under_way_comes_after_it() {
    let (mut table, now) = (table(), Instant::now());
    table.set([(target(1), health(3600 * SECOND))].into(), now);
    let number = table.take_due(now + SECOND).unwrap();
    table.check_now(&target(1), now + SECOND).unwrap();
    assert_eq!(table.take_due(now + SECOND), None);
    table.record(number, now + SECOND, GOOD, now + 2 * SECOND);
    assert_eq!(table.next(), Some(now + 2 * SECOND));
    answer(&mut table, now + 2 * SECOND, GOOD);
    assert_eq!(table.next(), Some(now + 3602 * SECOND));
}
