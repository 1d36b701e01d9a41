// Sends what every sender of these tests sends, by the official JavaScript SDK in Node: see ../senders.py.
//
//     NODE_PATH=.tools/interop/node/node_modules node send.cjs PROTOCOL URL USERS PREFIX
'use strict';

const { diag, DiagConsoleLogger, DiagLogLevel } = require('@opentelemetry/api');
const { BatchLogRecordProcessor, LoggerProvider } = require('@opentelemetry/sdk-logs');
const { BatchSpanProcessor, TracerProvider } = require('@opentelemetry/sdk-trace');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');

const PACKAGES = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };
const BATCH = 200; // more at a time and the SDK would drop some

async function main(protocol, url, users, prefix) {
  if (!(protocol in PACKAGES)) throw new Error(`expected one of ${Object.keys(PACKAGES)}, found ${protocol}`);
  const exporter = (signal, path, name) => {
    const kind = require(`@opentelemetry/exporter-${signal}-otlp-${PACKAGES[protocol]}`)[name];
    return new kind({ url: protocol === 'grpc' ? url : `${url}/v1/${path}`, compression: 'gzip' });
  };
  let failed = 0;
  diag.setLogger(
    { ...new DiagConsoleLogger(), error: (...said) => (failed++, console.error(...said)), warn: console.error },
    DiagLogLevel.WARN,
  );
  const logs = new LoggerProvider({
    processors: [new BatchLogRecordProcessor({ exporter: exporter('logs', 'logs', 'OTLPLogExporter') })],
  });
  const spans = new TracerProvider({
    spanProcessors: [new BatchSpanProcessor({ exporter: exporter('trace', 'traces', 'OTLPTraceExporter') })],
  });
  const metrics = new MeterProvider({
    readers: [new PeriodicExportingMetricReader({ exporter: exporter('metrics', 'metrics', 'OTLPMetricExporter') })],
  });
  const [logger, tracer] = [logs.getLogger('interop'), spans.getTracer('interop')];
  const start = Date.now() - 30 * 60_000;
  const after = (minutes) => new Date(start + minutes * 60_000);

  const event = (eventName, user, timestamp) =>
    logger.emit({ eventName, timestamp, attributes: { 'user.id': user, plan: 'pro' } });
  for (let number = 0; number < users; number++) {
    const user = `${prefix}${number}`;
    event('user_signed_up', user, after(0));
    event('project_created', user, after(4));
    logger.emit({ timestamp: after(0), body: 'a mail went to ada@example.com' });
    const span = tracer.startSpan('POST /agents', { attributes: { 'user.id': user } });
    span.addEvent('agent_created', {}, after(10));
    span.end();
    if (number % BATCH === BATCH - 1) await Promise.all([logs.forceFlush(), spans.forceFlush()]);
  }
  event('user_signed_up', 'x'.repeat(600), after(0));
  metrics.getMeter('interop').createCounter('clicks').add(1);
  for (const provider of [logs, spans, metrics]) {
    await provider.forceFlush();
    await provider.shutdown();
  }
  if (failed) throw new Error(`the SDK told ${failed} errors`);
}

const [protocol, url, users, prefix] = process.argv.slice(2);
main(protocol, url, Number(users), prefix).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
