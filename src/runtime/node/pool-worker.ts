import { parentPort, workerData } from 'node:worker_threads';
import { type PoolMember, serve } from '../../backend/wasm/pool.ts';

serve(workerData as PoolMember, () => parentPort!.postMessage('ready'));
