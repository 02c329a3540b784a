//! The arithmetic: medians, spreads, quantiles. Single measurements of storms mean little on a machine with other
//! load. The median of many is stable, and their spread shows how much.

/// The median of some measurements, and the range of the middle half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    /// A quarter is below.
    pub(crate) low: f64,
    /// A quarter is above.
    pub(crate) high: f64,
    /// Number of measurements.
    pub(crate) count: usize,
}

/// Returns None without values.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    Some(Spread {
        median: quantile(&values, 0.5)?,
        low: quantile(&values, 0.25)?,
        high: quantile(&values, 0.75)?,
        count: values.len(),
    })
}

/// Returns the value below which this part of the sorted values is, interpolated between two of them.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    Some(below + (above - below) * place.fract())
}

/// Returns traced ÷ untraced, with the untraced measurements before and after.
pub(crate) fn ratio(traced: f64, before: f64, after: f64) -> f64 {
    traced / f64::midpoint(before, after)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "these numbers are exact in binary")]

    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(spread([3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(spread([4.0, 1.0, 3.0, 2.0]).unwrap().median, 2.5);
        assert_eq!(spread([7.0]).unwrap(), Spread { median: 7.0, low: 7.0, high: 7.0, count: 1 });
        assert_eq!(spread([]), None);
    }

    #[test]
    fn an_outlier_moves_neither_median_nor_spread_much() {
        let calm = spread([1.0, 1.0, 1.0, 1.0, 1.0]).unwrap();
        let disturbed = spread([1.0, 1.0, 1000.0, 1.0, 1.0]).unwrap();
        assert_eq!(calm, disturbed);
    }

    #[test]
    fn the_spread_holds_the_half_in_the_middle() {
        let spread = spread((0..=100).map(f64::from)).unwrap();
        assert_eq!((spread.low, spread.median, spread.high, spread.count), (25.0, 50.0, 75.0, 101));
    }

    #[test]
    fn missing_measurements_do_not_count() {
        assert_eq!(
            spread([f64::NAN, 2.0, f64::INFINITY]).unwrap(),
            Spread { median: 2.0, low: 2.0, high: 2.0, count: 1 }
        );
    }

    #[test]
    fn quantiles_lie_between_values_in_proportion() {
        let values = [10.0, 20.0, 30.0];
        assert_eq!(quantile(&values, 0.0), Some(10.0));
        assert_eq!(quantile(&values, 0.99), Some(29.8));
        assert_eq!(quantile(&values, 1.0), Some(30.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_ratio_takes_both_neighbours_into_account() {
        // The machine became slower meanwhile: neither neighbour alone is right.
        assert_eq!(ratio(90.0, 110.0, 90.0), 0.9);
    }
}
