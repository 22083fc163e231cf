//! Waiting for what takes a moment, without guessing how long.

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer.
///
/// The pause between two questions grows from half a millisecond to 10.
///
/// # Panics
///
/// At the caller's line, if there is no answer within `limit`.
#[track_caller]
pub fn deadline<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        // Read before asking, so that a slow machine gets one question after the limit.
        let late = start.elapsed() >= limit;
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(!late, "no answer within {limit:?}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_until_there_is_an_answer() {
        let mut asked = 0;
        let answer = deadline(Duration::from_secs(60), || {
            asked += 1;
            (asked == 3).then_some("yes")
        });
        assert_eq!((answer, asked), ("yes", 3));
    }

    #[test]
    #[should_panic(expected = "no answer within 1ms")]
    fn gives_up() {
        deadline(Duration::from_millis(1), || None::<()>);
    }

    #[test]
    fn asks_once_even_with_no_time() {
        assert_eq!(deadline(Duration::ZERO, || Some(7)), 7);
    }
}
