import type { DiskFile } from '../../src/io/disk.ts';
import { NodeDisk } from '../../src/io/node-disk.ts';

/** A disk that can be full: while it is, no file gets longer. */
export class FullDisk extends NodeDisk {
  isFull = false;

  override async open(path: string, options: Parameters<NodeDisk['open']>[1]): Promise<DiskFile> {
    const file = await super.open(path, options);
    const write = file.write.bind(file);
    file.write = async (buffers, position) => {
      const end = buffers.reduce((sum, buffer) => sum + buffer.length, position);
      if (this.isFull && end > (await file.size())) throw Object.assign(new Error('no room'), { code: 'ENOSPC' });
      await write(buffers, position);
    };
    return file;
  }
}
