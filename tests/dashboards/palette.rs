//! Distance of colours with colour vision deficiency.

/// Simulation of deuteranopia and protanopia on linear RGB (Machado, Oliveira and Fernandes, 2009).
const SEEN: [[[f64; 3]; 3]; 2] = [
    [
        [0.367_322, 0.860_646, -0.227_968],
        [0.280_085, 0.672_501, 0.047_413],
        [-0.011_820, 0.042_940, 0.968_881],
    ],
    [
        [0.152_286, 1.052_583, -0.204_868],
        [0.114_503, 0.786_281, 0.099_216],
        [-0.003_882, -0.048_116, 1.051_998],
    ],
];

/// Conversion from linear RGB to CIE XYZ, relative to white.
const TRISTIMULUS: [[f64; 3]; 3] = [
    [0.433_953, 0.376_219, 0.189_828],
    [0.212_673, 0.715_152, 0.072_175],
    [0.017_758, 0.109_477, 0.872_765],
];

/// The smallest distance between two colours (CIE 1976), and these colours.
pub(crate) fn closest<'a>(colours: &[&'a str]) -> (f64, &'a str, &'a str) {
    let mut pairs = Vec::new();
    for (index, one) in colours.iter().enumerate() {
        for other in &colours[index + 1..] {
            pairs.extend(
                SEEN.iter()
                    .map(|seen| (distance(one, other, seen), *one, *other)),
            );
        }
    }
    pairs
        .into_iter()
        .min_by(|one, other| one.0.total_cmp(&other.0))
        .unwrap()
}

fn distance(one: &str, other: &str, seen: &[[f64; 3]; 3]) -> f64 {
    let (one, other) = (lab(one, seen), lab(other, seen));
    let squares = one.iter().zip(other).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// The CIELAB coordinates of a colour.
fn lab(colour: &str, seen: &[[f64; 3]; 3]) -> [f64; 3] {
    let number = u32::from_str_radix(colour.trim_start_matches('#'), 16).unwrap();
    let [_, parts @ ..] = number.to_be_bytes();
    let linear = parts.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.040_45 {
            part / 12.92
        } else {
            ((part + 0.055) / 1.055).powf(2.4)
        }
    });
    let seen = times(seen, linear).map(|part| part.clamp(0.0, 1.0));
    let [x, y, z] = times(&TRISTIMULUS, seen).map(|part| {
        if part > 0.008_856 {
            part.cbrt()
        } else {
            7.787 * part + 16.0 / 116.0
        }
    });
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

fn times(matrix: &[[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
}
