import { formatMs } from '../../report/index.ts';
import { tune } from '../../runtime/index.ts';
import { command, JSON_FLAG } from '../command.ts';
import { textTable } from '../table.ts';

/** `attenuate tune`: times the candidate tiles here and remembers the best for this engine and processor. */
export const tuneCommand = command({
  name: 'tune',
  description: 'Find the fastest kernel tiles on this device and remember them',
  args: { ...JSON_FLAG },
  examples: ['attenuate tune', 'attenuate tune --json'],
  async execute() {
    const found = await tune();
    const { tiles, timed, file } = found;
    const rows = timed.map(({ kind, rows, medianMs }) => [
      kind,
      `${rows}`,
      formatMs(medianMs),
      tiles[kind] === rows ? '← best' : '',
    ]);
    return {
      json: found,
      text: [textTable(['product', 'rows of a tile', 'median', ''], rows), '', `remembered in ${file}`].join(
        '\n',
      ),
    };
  },
});
