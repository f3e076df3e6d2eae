//! The tables: a row a figure, a column a peer, and behind each value how many times ours it is.

use crate::Options;
use crate::figures::Figures;
use crate::loggers::{CASES, Pace, Paces, Place, Text};

type Read<Column> = dyn Fn(&Column) -> Option<f64>;

/// One row: its name, how a value is written, and where it comes from.
struct Row<Column> {
    name: String,
    write: fn(f64) -> String,
    read: Box<Read<Column>>,
}

pub fn render(columns: &[(&str, Figures)], options: &Options) -> String {
    table(columns, rows(options), |figures| &figures.troubles)
}

pub fn render_loggers(columns: &[(&str, Paces)]) -> String {
    table(columns, logger_rows(), |paces| &paces.troubles)
}

fn table<Column>(
    columns: &[(&str, Column)],
    rows: Vec<Row<Column>>,
    troubles: fn(&Column) -> &Vec<String>,
) -> String {
    let mut lines = vec![head(columns)];
    for row in rows {
        let ours = columns.iter().find(|(name, _)| *name == "outlast");
        let ours = ours.and_then(|(_, figures)| (row.read)(figures));
        let mut cells = vec![row.name.clone()];
        for (name, figures) in columns {
            cells.push(cell(&row, (row.read)(figures), ours, *name == "outlast"));
        }
        lines.push(cells);
    }
    let mut text = aligned(&lines);
    for (name, figures) in columns {
        for trouble in troubles(figures) {
            text += &format!("\n{name}: not measured: {trouble}");
        }
    }
    text + "\n"
}

fn head<Column>(columns: &[(&str, Column)]) -> Vec<String> {
    let names = columns.iter().map(|(name, _)| (*name).to_owned());
    std::iter::once("(in brackets: times ours)".to_owned())
        .chain(names)
        .collect()
}

fn cell<Column>(row: &Row<Column>, value: Option<f64>, ours: Option<f64>, is_ours: bool) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    match ours {
        Some(ours) if !is_ours && ours > 0.0 => {
            format!("{} ({:.1}x)", (row.write)(value), value / ours)
        }
        _ => (row.write)(value),
    }
}

fn rows(options: &Options) -> Vec<Row<Figures>> {
    let (many, few) = (options.many, options.few);
    let further = (many - few) as f64;
    vec![
        row(format!("PSS, {many} logged services"), mib, |f| {
            Some(f.memory_many?.pss as f64)
        }),
        row(format!("PSS, {few} logged services"), mib, |f| {
            Some(f.memory_few?.pss as f64)
        }),
        row(
            "anonymous memory per further service".to_owned(),
            kib,
            move |f| {
                let grown = f.memory_many?.anonymous as f64 - f.memory_few?.anonymous as f64;
                Some(grown / further)
            },
        ),
        row(format!("{many} up, wall"), seconds, |f| {
            Some(f.up_wall?.as_secs_f64())
        }),
        row(format!("{many} up, processor"), seconds, |f| {
            Some(f.up_processor?.as_secs_f64())
        }),
        row(format!("{many} stopped"), seconds, |f| {
            Some(f.stopped?.as_secs_f64())
        }),
        row(
            "kill -9 to the next first instruction".to_owned(),
            millis,
            |f| Some(f.successor?.as_secs_f64()),
        ),
        row(
            format!("kill -9 of the supervisor to the status of {many}"),
            millis,
            |f| Some(f.in_hand?.as_secs_f64()),
        ),
        row("restart of one, whole command".to_owned(), millis, |f| {
            Some(f.restart?.as_secs_f64())
        }),
        row(format!("status of {many}, whole command"), millis, |f| {
            Some(f.status?.as_secs_f64())
        }),
        row("sv status of one, whole command".to_owned(), millis, |f| {
            Some(f.sv_status?.as_secs_f64())
        }),
        row("sv restart of one, whole command".to_owned(), millis, |f| {
            Some(f.sv_restart?.as_secs_f64())
        }),
        row("new directory to running process".to_owned(), millis, |f| {
            Some(f.noticed?.as_secs_f64())
        }),
        row(format!("wake-ups a minute, {few} idle"), count, |f| {
            f.wake_ups_a_minute
        }),
    ]
}

fn logger_rows() -> Vec<Row<Paces>> {
    let mut rows = Vec::new();
    for (at, (text, place)) in CASES.into_iter().enumerate() {
        let text = match text {
            Text::Usual => "lines of 60 to 200 bytes",
            Text::Short => "lines of 20 bytes",
        };
        let place = match place {
            Place::Memory => "tmpfs",
            Place::Disk => "disk",
        };
        let pace = move |paces: &Paces| -> Option<Pace> { *paces.paces.get(at)? };
        let name = format!("{text}, {place}");
        rows.push(Row {
            name: name.clone(),
            write: megabytes,
            read: Box::new(move |paces| Some(pace(paces)?.bytes_a_second)),
        });
        rows.push(Row {
            name: format!("{name}, processor"),
            write: price,
            read: Box::new(move |paces| Some(pace(paces)?.processor_seconds_a_byte)),
        });
    }
    rows
}

fn row(
    name: String,
    write: fn(f64) -> String,
    read: impl Fn(&Figures) -> Option<f64> + 'static,
) -> Row<Figures> {
    Row {
        name,
        write,
        read: Box::new(read),
    }
}

fn megabytes(bytes_a_second: f64) -> String {
    format!("{:.0} MB/s", bytes_a_second / 1e6)
}

fn price(seconds_a_byte: f64) -> String {
    format!("{:.2} s/GB", seconds_a_byte * 1e9)
}

fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / 1024.0 / 1024.0)
}

fn kib(bytes: f64) -> String {
    format!("{:.1} KiB", bytes / 1024.0)
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn millis(seconds: f64) -> String {
    let ms = seconds * 1000.0;
    match ms < 1.0 {
        true => format!("{ms:.2} ms"),
        false => format!("{ms:.1} ms"),
    }
}

fn count(number: f64) -> String {
    format!("{number:.0}")
}

/// The first column to the left, figures to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(at))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (at, cell) in line.iter().enumerate() {
            let width = widths[at];
            text += &match at {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text += "\n";
    }
    text
}
