import type { Output } from './io.ts';
import { printable } from './table.ts';

/** Says how far a long work is: one line that is rewritten on a terminal, plain lines elsewhere. */
export interface Progress {
  /** `fraction` from 0 to 1; `key` names the part, so that plain output has one line for each. */
  update(fraction: number, key: string, words?: string): void;
  /** Removes the line, before anything else is written. */
  clear(): void;
}

const BAR = 24;
const INTERVAL_MS = 60;

/** @param now milliseconds; tests bring their own clock */
export function createProgress(out: Output, now: () => number = Date.now): Progress {
  return out.isTTY ? barProgress(out, now) : lineProgress(out);
}

function lineProgress(out: Output): Progress {
  let last = '';
  return {
    update(_fraction, key) {
      if (key === last) return;
      last = key;
      out.write(`${printable(key)}\n`);
    },
    clear() {},
  };
}

function barProgress(out: Output, now: () => number): Progress {
  let drawn = -Infinity;
  let visible = false;
  return {
    update(fraction, key, words = key) {
      if (now() - drawn < INTERVAL_MS) return;
      drawn = now();
      visible = true;
      const part = Math.min(1, Math.max(0, fraction));
      const full = Math.round(part * BAR);
      const bar = `${'█'.repeat(full)}${'░'.repeat(BAR - full)} ${`${Math.floor(part * 100)}`.padStart(3)}%  `;
      const room = Math.max(0, (out.columns ?? 80) - bar.length - 1);
      out.write(`\r\u001b[2K${bar}${printable(words).slice(0, room)}`);
    },
    clear() {
      if (visible) out.write('\r\u001b[2K');
      visible = false;
    },
  };
}
