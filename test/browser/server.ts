import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  safetensors: 'application/octet-stream',
};

/** The strictest policy under which WebAssembly may be compiled. */
export const CONTENT_SECURITY_POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";

export interface StaticServer {
  readonly origin: string;
  /** Paths asked for since the last call, in order. */
  takeRequests(): string[];
  close(): Promise<void>;
}

/** @param isolated cross-origin isolation, which shared memory needs */
export async function serve(
  files: ReadonlyMap<string, string | Uint8Array>,
  isolated: boolean,
): Promise<StaticServer> {
  let requests: string[] = [];
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    requests.push(path);
    response.setHeader('Content-Security-Policy', CONTENT_SECURITY_POLICY);
    response.setHeader('Cache-Control', 'no-store');
    if (isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    const body = files.get(path);
    if (body === undefined) {
      response.writeHead(404).end();
      return;
    }
    response.setHeader(
      'Content-Type',
      TYPES[path.endsWith('/') ? 'html' : path.split('.').at(-1)!] ?? 'application/octet-stream',
    );
    response.setHeader('Content-Length', Buffer.byteLength(body));
    response.end(body);
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    takeRequests() {
      const taken = requests;
      requests = [];
      return taken;
    },
    close: () =>
      new Promise((closed, failed) => {
        server.close((error) => (error ? failed(error) : closed()));
        server.closeAllConnections();
      }),
  };
}
