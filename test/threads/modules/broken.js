throw new RangeError('no database');
