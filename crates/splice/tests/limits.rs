//! What settings can be.

use bpfsmith_splice::{Settings, Splicer};

#[test]
fn settings_out_of_range_are_named() {
    let of = |pairs, ahead| Settings { pairs, ahead };
    for (settings, expected) in [
        (of(0, 1), "splice: pairs is 0: it can be 1 to 1073741824"),
        (of(1, 0), "splice: ahead is 0: it can be 1 to 2147483647"),
    ] {
        let refused = Splicer::new(settings)
            .map(drop)
            .map_err(|error| error.to_string());
        assert_eq!(refused, Err(expected.to_owned()));
    }
}
