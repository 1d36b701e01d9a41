//! Sends what every sender of these tests sends, by the official Rust SDK: see ../senders.py.

use std::error::Error;
use std::time::{Duration, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, SpanBuilder, Tracer, TracerProvider};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

type Failed = Box<dyn Error + Send + Sync>;

fn over(protocol: &str, url: &str) -> Result<(LogExporter, SpanExporter, MetricExporter), Failed> {
    let encoding = match protocol {
        "grpc" => {
            return Ok((
                LogExporter::builder().with_tonic().with_endpoint(url).with_compression(Compression::Gzip).build()?,
                SpanExporter::builder().with_tonic().with_endpoint(url).with_compression(Compression::Gzip).build()?,
                MetricExporter::builder().with_tonic().with_endpoint(url).build()?,
            ))
        }
        "http/protobuf" => Protocol::HttpBinary,
        "http/json" => Protocol::HttpJson,
        other => return Err(format!("expected grpc, http/protobuf or http/json, found {other}").into()),
    };
    let at = |path: &str| format!("{url}/v1/{path}");
    Ok((
        LogExporter::builder().with_http().with_protocol(encoding).with_endpoint(at("logs")).build()?,
        SpanExporter::builder().with_http().with_protocol(encoding).with_endpoint(at("traces")).build()?,
        MetricExporter::builder().with_http().with_protocol(encoding).with_endpoint(at("metrics")).build()?,
    ))
}

fn event(logs: &SdkLoggerProvider, name: &'static str, user: &str, at: SystemTime) {
    let logger = logs.logger("interop");
    let mut record = logger.create_log_record();
    record.set_event_name(name);
    record.set_timestamp(at);
    record.add_attribute("user.id", user.to_owned());
    record.add_attribute("plan", "pro");
    logger.emit(record);
}

fn send(protocol: &str, url: &str, users: usize, prefix: &str) -> Result<(), Failed> {
    let (log_exporter, span_exporter, metric_exporter) = over(protocol, url)?;
    let logs = SdkLoggerProvider::builder().with_batch_exporter(log_exporter).build();
    let spans = SdkTracerProvider::builder().with_batch_exporter(span_exporter).build();
    let metrics = SdkMeterProvider::builder().with_periodic_exporter(metric_exporter).build();
    let start = SystemTime::now() - Duration::from_secs(30 * 60);
    let tracer = spans.tracer("interop");
    for number in 0..users {
        let user = format!("{prefix}{number}");
        event(&logs, "user_signed_up", &user, start);
        event(&logs, "project_created", &user, start + Duration::from_secs(4 * 60));
        let logger = logs.logger("interop");
        let mut line = logger.create_log_record();
        line.set_timestamp(start);
        line.set_body(AnyValue::from("a mail went to ada@example.com"));
        logger.emit(line);
        let named = SpanBuilder::from_name("POST /agents").with_attributes([KeyValue::new("user.id", user)]);
        let mut span = tracer.build(named);
        span.add_event_with_timestamp("agent_created", start + Duration::from_secs(10 * 60), vec![]);
        span.end();
    }
    event(&logs, "user_signed_up", &"x".repeat(600), start);
    metrics.meter("interop").u64_counter("clicks").build().add(1, &[]);
    logs.force_flush()?;
    spans.force_flush()?;
    metrics.force_flush()?;
    logs.shutdown()?;
    spans.shutdown()?;
    metrics.shutdown()?;
    Ok(())
}

// tonic wants a runtime where it is built; the SDK exports from threads of its own. reqwest's blocking client wants
// none where it is built.
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = (arguments[1] == "grpc").then(|| runtime.enter());
    let users = arguments[3].parse().unwrap_or_default();
    if let Err(error) = send(&arguments[1], &arguments[2], users, &arguments[4]) {
        eprintln!("failed: {error}");
        std::process::exit(1);
    }
}
