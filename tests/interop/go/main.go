// Sends what every sender of these tests sends, by the official Go SDK: see ../senders.py.
//
//	sender PROTOCOL URL USERS PREFIX
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otellog "go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type exporters struct {
	logs    sdklog.Exporter
	spans   sdktrace.SpanExporter
	metrics sdkmetric.Exporter
}

func over(ctx context.Context, protocol, url string) (exporters, error) {
	var made exporters
	var errs [3]error
	switch protocol {
	case "grpc":
		made.logs, errs[0] = otlploggrpc.New(ctx, otlploggrpc.WithEndpointURL(url), otlploggrpc.WithCompressor("gzip"))
		made.spans, errs[1] = otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(url), otlptracegrpc.WithCompressor("gzip"))
		made.metrics, errs[2] = otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(url))
	case "http/protobuf":
		made.logs, errs[0] = otlploghttp.New(ctx, otlploghttp.WithEndpointURL(url+"/v1/logs"), otlploghttp.WithCompression(otlploghttp.GzipCompression))
		made.spans, errs[1] = otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(url+"/v1/traces"), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		made.metrics, errs[2] = otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(url+"/v1/metrics"))
	default:
		return made, fmt.Errorf("expected grpc or http/protobuf, found %s", protocol)
	}
	for _, err := range errs {
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

func send(ctx context.Context, by exporters, users int, prefix string) error {
	logs := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(by.logs)))
	spans := sdktrace.NewTracerProvider(sdktrace.WithBatcher(by.spans))
	metrics := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(by.metrics)))
	logger, tracer := logs.Logger("interop"), spans.Tracer("interop")
	start := time.Now().Add(-30 * time.Minute)

	event := func(name, user string, at time.Time) {
		var record otellog.Record
		record.SetEventName(name)
		record.SetTimestamp(at)
		record.AddAttributes(attribute.String("user.id", user), attribute.String("plan", "pro"))
		logger.Emit(ctx, record)
	}
	for number := range users {
		user := prefix + strconv.Itoa(number)
		event("user_signed_up", user, start)
		event("project_created", user, start.Add(4*time.Minute))
		var line otellog.Record
		line.SetTimestamp(start)
		line.SetBody(attribute.StringValue("a mail went to ada@example.com"))
		logger.Emit(ctx, line)
		_, span := tracer.Start(ctx, "POST /agents", trace.WithAttributes(attribute.String("user.id", user)))
		span.AddEvent("agent_created", trace.WithTimestamp(start.Add(10*time.Minute)))
		span.End()
	}
	event("user_signed_up", strings.Repeat("x", 600), start)
	clicks, err := metrics.Meter("interop").Int64Counter("clicks")
	if err != nil {
		return err
	}
	clicks.Add(ctx, 1)
	for _, shutdown := range []func(context.Context) error{logs.Shutdown, spans.Shutdown, metrics.Shutdown} {
		err := shutdown(ctx)
		// Not an error of the sending: the SDK says so of records that the server would not have.
		if err != nil && strings.Contains(err.Error(), "partial success") {
			fmt.Fprintln(os.Stderr, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { fmt.Fprintln(os.Stderr, err) }))
	users, err := strconv.Atoi(os.Args[3])
	if err == nil {
		var by exporters
		if by, err = over(ctx, os.Args[1], os.Args[2]); err == nil {
			err = send(ctx, by, users, os.Args[4])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
}
