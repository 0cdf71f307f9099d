import type { DiskFile } from '../../src/io/disk.ts';
import { NodeDisk } from '../../src/io/node-disk.ts';
import { Deferred } from './events.ts';

/** A disk that can be made to take its time: what is written while it is held is written when it is released. */
export class HeldDisk extends NodeDisk {
  #released: Deferred | undefined;

  hold(): void {
    this.#released ??= new Deferred();
  }

  release(): void {
    this.#released?.resolve();
    this.#released = undefined;
  }

  override async open(path: string, options: Parameters<NodeDisk['open']>[1]): Promise<DiskFile> {
    const file = await super.open(path, options);
    const write = file.write.bind(file);
    file.write = async (buffers, position) => {
      await this.#released?.promise;
      await write(buffers, position);
    };
    return file;
  }
}
