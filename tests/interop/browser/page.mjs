// Sends what every sender of these tests sends but for metrics, by the official JavaScript SDK in a browser's page.
// ?protocol=http/json&url=http://...&users=40&prefix=web- ; what became of it stands in the body then.
import { diag, DiagLogLevel } from '@opentelemetry/api';
import { OTLPLogExporter as JsonLogs } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtobufLogs } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPTraceExporter as JsonSpans } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufSpans } from '@opentelemetry/exporter-trace-otlp-proto';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

const asked = new URLSearchParams(location.search);
const [Logs, Spans] =
  asked.get('protocol') === 'http/json' ? [JsonLogs, JsonSpans] : [ProtobufLogs, ProtobufSpans];
const said = [];
const told = (...words) => said.push(words.map(String).join(' '));
const quiet = () => {};
diag.setLogger({ error: told, warn: told, info: quiet, debug: quiet, verbose: quiet }, DiagLogLevel.WARN);

async function send() {
  const at = (path) => ({ url: `${asked.get('url')}/v1/${path}` });
  const logs = new LoggerProvider({
    processors: [new BatchLogRecordProcessor({ exporter: new Logs(at('logs')) })],
  });
  const spans = new TracerProvider({ spanProcessors: [new BatchSpanProcessor({ exporter: new Spans(at('traces')) })] });
  const [logger, tracer] = [logs.getLogger('interop'), spans.getTracer('interop')];
  const start = Date.now() - 30 * 60_000;
  const after = (minutes) => new Date(start + minutes * 60_000);
  const event = (eventName, user, timestamp) =>
    logger.emit({ eventName, timestamp, attributes: { 'user.id': user, plan: 'pro' } });
  for (let number = 0; number < Number(asked.get('users')); number++) {
    const user = `${asked.get('prefix')}${number}`;
    event('user_signed_up', user, after(0));
    event('project_created', user, after(4));
    logger.emit({ timestamp: after(0), body: 'a mail went to ada@example.com' });
    const span = tracer.startSpan('POST /agents', { attributes: { 'user.id': user } });
    span.addEvent('agent_created', {}, after(10));
    span.end();
  }
  event('user_signed_up', 'x'.repeat(600), after(0));
  for (const provider of [logs, spans]) {
    await provider.forceFlush();
    await provider.shutdown();
  }
}

send()
  .catch(told)
  .finally(() => {
    document.body.textContent = `done ${said.join('\n')}`;
  });
