import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.http.metrics.OtlpHttpMetricExporter;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.exporter.otlp.metrics.OtlpGrpcMetricExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import io.opentelemetry.sdk.metrics.SdkMeterProvider;
import io.opentelemetry.sdk.metrics.export.MetricExporter;
import io.opentelemetry.sdk.metrics.export.PeriodicMetricReader;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.TimeUnit;

/** Sends what every sender of these tests sends, by the official Java SDK: see ../senders.py. */
public final class Sender {
  private static final AttributeKey<String> USER = AttributeKey.stringKey("user.id");
  private static final AttributeKey<String> PLAN = AttributeKey.stringKey("plan");

  private record Exporters(LogRecordExporter logs, SpanExporter spans, MetricExporter metrics) {
    static Exporters over(String protocol, String url) {
      return switch (protocol) {
        case "grpc" ->
            new Exporters(
                OtlpGrpcLogRecordExporter.builder().setEndpoint(url).setCompression("gzip").build(),
                OtlpGrpcSpanExporter.builder().setEndpoint(url).setCompression("gzip").build(),
                OtlpGrpcMetricExporter.builder().setEndpoint(url).build());
        case "http/protobuf" ->
            new Exporters(
                OtlpHttpLogRecordExporter.builder()
                    .setEndpoint(url + "/v1/logs")
                    .setCompression("gzip")
                    .build(),
                OtlpHttpSpanExporter.builder()
                    .setEndpoint(url + "/v1/traces")
                    .setCompression("gzip")
                    .build(),
                OtlpHttpMetricExporter.builder().setEndpoint(url + "/v1/metrics").build());
        default ->
            throw new IllegalArgumentException("expected grpc or http/protobuf, found " + protocol);
      };
    }
  }

  private static void event(Logger logger, String name, String user, Instant at) {
    logger
        .logRecordBuilder()
        .setEventName(name)
        .setTimestamp(at)
        .setAllAttributes(Attributes.of(USER, user, PLAN, "pro"))
        .emit();
  }

  private static void done(CompletableResultCode code, String what) {
    if (!code.join(30, TimeUnit.SECONDS).isSuccess()) {
      System.err.println("failed: " + what);
      System.exit(1);
    }
  }

  public static void main(String[] arguments) {
    Exporters by = Exporters.over(arguments[0], arguments[1]);
    int users = Integer.parseInt(arguments[2]);
    String prefix = arguments[3];
    SdkLoggerProvider logs =
        SdkLoggerProvider.builder()
            .addLogRecordProcessor(BatchLogRecordProcessor.builder(by.logs()).build())
            .build();
    SdkTracerProvider spans =
        SdkTracerProvider.builder()
            .addSpanProcessor(BatchSpanProcessor.builder(by.spans()).build())
            .build();
    SdkMeterProvider metrics =
        SdkMeterProvider.builder()
            .registerMetricReader(PeriodicMetricReader.create(by.metrics()))
            .build();
    Logger logger = logs.get("interop");
    Tracer tracer = spans.get("interop");
    Instant start = Instant.now().minus(Duration.ofMinutes(30));
    for (int number = 0; number < users; number++) {
      String user = prefix + number;
      event(logger, "user_signed_up", user, start);
      event(logger, "project_created", user, start.plus(Duration.ofMinutes(4)));
      logger
          .logRecordBuilder()
          .setTimestamp(start)
          .setBody("a mail went to ada@example.com")
          .emit();
      tracer
          .spanBuilder("POST /agents")
          .setAttribute(USER, user)
          .startSpan()
          .addEvent("agent_created", start.plus(Duration.ofMinutes(10)))
          .end();
    }
    event(logger, "user_signed_up", "x".repeat(600), start);
    metrics.get("interop").counterBuilder("clicks").build().add(1);
    done(logs.forceFlush(), "logs");
    done(spans.forceFlush(), "spans");
    done(metrics.forceFlush(), "metrics");
    done(logs.shutdown(), "logs");
    done(spans.shutdown(), "spans");
    done(metrics.shutdown(), "metrics");
  }
}
