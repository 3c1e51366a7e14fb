import type { AgreementStore } from '../agreement.ts';
import { deviceKey, readDeviceFile, writeDeviceFile } from './device-store.ts';

const NAME = 'agreements.json';
const KEPT = 500;

/** Which artifacts were found to be computed rightly here. The oldest are forgotten. */
export const agreementStore: AgreementStore = {
  has: async (key) => Object.hasOwn(await readDeviceFile(NAME), deviceKey(key)),
  async add(key) {
    const entries = Object.entries(await readDeviceFile(NAME)).slice(1 - KEPT);
    await writeDeviceFile(NAME, {
      ...Object.fromEntries(entries),
      [deviceKey(key)]: new Date().toISOString(),
    });
  },
};
